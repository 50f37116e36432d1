/** The part that all requests for an operation share: one open operation at a time for each object. */
import { UcloudError } from '../../contract/errors.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiContext, ApiRequest } from '../requests/context.ts';
import type { Guard, Mutation } from '../transaction/mutate.ts';
import { operations } from './operations.ts';

const isOpen = (operation: records.OperationRecord): boolean =>
  operation.state === 'pending' || operation.state === 'running';

/**
 * Returns the guard that the object has no open operation. One key contains the latest operation of the object. A new
 * operation rewrites that key, on the condition that the latest one has ended.
 */
async function alone(api: ApiContext, target: string): Promise<Guard> {
  const latest = await read(api.store, records.latestOperations, target);
  if (!latest) return { condition: absent(records.latestOperations, target) };
  const operation = await read(api.store, records.operations, latest.value.id);
  if (operation && isOpen(operation.value)) {
    throw new UcloudError('invalid_state', `${operation.id} on ${target} has not ended yet`);
  }
  return { condition: unchanged(latest) };
}

/** Returns the record of a new operation and the writes that create it. */
export function operationRecord(
  operation: Pick<records.OperationRecord, 'project' | 'kind' | 'target' | 'options'>,
  now: Date,
): { readonly record: records.OperationRecord; readonly writes: readonly Write[] } {
  const id = newId('operation');
  const at = now.toISOString();
  const record = { id, ...operation, state: 'pending', progress: 0, created_at: at, updated_at: at } as const;
  const latest = put(records.latestOperations, operation.target, { id });
  return { record, writes: [put(records.operations, id, record), latest] };
}

/** Returns the change that ends the open operations of an object that is being deleted: they cannot succeed any more. */
export function endedWithTarget(api: ApiContext, target: string, now: Date, message: string) {
  const open = [...api.mirror.by(records.operations, 'target').list(target)].filter(({ value }) => isOpen(value));
  const at = now.toISOString();
  const error = { code: 'being_deleted', message };
  const end = { state: 'failed', error, finished_at: at, updated_at: at } as const;
  return {
    guards: open.map((operation): Guard => ({ condition: unchanged(operation) })),
    writes: open.map((operation) => rewrite(records.operations, operation, { ...operation.value, ...end })),
  };
}

/** An operation to request. */
export interface OperationRequest extends Pick<records.OperationRecord, 'kind' | 'options'> {
  readonly guards: readonly Guard[];
  /** The reason and the message of the event. */
  readonly reason: string;
  readonly message: string;
}

/**
 * Returns the change that creates the operation on the VM.
 * @throws UcloudError `invalid_state` if the VM has an open operation
 */
export async function operationOn(
  api: ApiContext,
  request: ApiRequest,
  { id: target, value: { project } }: Stored<records.VmRecord>,
  { kind, options, guards, reason, message }: OperationRequest,
): Promise<Mutation> {
  const { record, writes } = operationRecord({ project, kind, target, options }, request.now);
  return {
    guards: [...guards, await alone(api, target)],
    writes,
    ...{ target, project, quotaDelta: undefined, reason, message },
    answer: { status: 202, body: operations.show(api, record), location: `/v1/operations/${record.id}` },
  };
}
