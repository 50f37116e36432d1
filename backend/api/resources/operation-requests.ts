/** The part that all requests for an operation share: one open operation at a time for each object. */
import { UcloudError } from '../../contract/errors.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
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
  const id = newId('operation');
  const at = request.now.toISOString();
  const record: records.OperationRecord = {
    ...{ id, project, kind, target, options },
    ...{ state: 'pending', progress: 0, created_at: at, updated_at: at },
  };
  return {
    guards: [...guards, await alone(api, target)],
    writes: [put(records.operations, id, record), put(records.latestOperations, target, { id })],
    ...{ target, project, quotaDelta: undefined, reason, message },
    answer: { status: 202, body: operations.show(api, record), location: `/v1/operations/${id}` },
  };
}
