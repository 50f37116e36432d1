/**
 * ApplyResourceChange: create, update or delete one object.
 *
 * The state that this call returns is the only trace of the object that Terraform keeps. So, whatever happens:
 * - once the handler has said `save`, a failed create returns what was saved, with the error: Terraform then marks the
 *   object as tainted and replaces it;
 * - a create that was interrupted by Ctrl-C after `save`, or cannot be watched any more, returns the same with a warning:
 *   nothing is wrong with the object, the next run reads it and goes on;
 * - a create that fails before `save` made nothing and returns nothing;
 * - a failed update or delete returns the state before, with what was saved since, and the next run tries again.
 */
import type { Response } from '../../protocol/messages.ts';
import { isObject } from '../../protocol/types.ts';
import type { Values } from '../../protocol/values.ts';
import { type Diagnostic, DiagnosticList, UnwatchedError } from '../diagnostics.ts';
import { parseDuration } from '../duration.ts';
import { pathText, valueAt } from '../paths.ts';
import { copyObject, overlay, unknownPaths, withoutUnknowns } from '../state.ts';
import type { CreateContext, PrivateState } from '../types.ts';
import { addFailure, type Call } from './call.ts';
import {
  type Handler,
  readObject,
  readPrivate,
  requireObject,
  unknownType,
  writePrivate,
  writeValue,
} from './handler.ts';
import { identityOf } from './identity.ts';
import { isChanged } from './plan.ts';
import type { AnyResource, Entry } from './registry.ts';
import type { Session } from './session.ts';

type Operation = 'create' | 'read' | 'update' | 'delete';

/** How long an operation may take: what the user set, else the definition's default. */
export function timeoutOf(
  definition: { timeouts?: Readonly<Partial<Record<Operation, string>>> },
  operation: Operation,
  values: Values,
): number | undefined {
  const standard = definition.timeouts?.[operation];
  if (standard === undefined) return undefined;
  const set = valueAt(values.timeouts ?? null, [operation]);
  return parseDuration(typeof set === 'string' ? set : standard);
}

export const applyResourceChange: Handler<'ApplyResourceChange'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const prior = readObject(entry.type, request.prior_state);
  const planned = readObject(entry.type, request.planned_state);
  const privateState = readPrivate(request.planned_private);

  if (planned === null) {
    const gone = prior === null || (await remove(session, call, entry, prior, privateState));
    return answer(call, entry, gone ? null : prior, privateState, request.planned_private);
  }
  const config = requireObject(entry.type, request.config, 'configuration');
  const state = await createOrUpdate(session, call, entry, { prior, planned, config, privateState });
  return answer(call, entry, state, privateState, request.planned_private);
};

/** Returns the answer with the state that Terraform keeps. The diagnostics come last, because the other parts add to them. */
function answer(
  call: Call,
  entry: Entry<AnyResource>,
  state: Values | null,
  privateState: PrivateState,
  before: Uint8Array,
): Response<'ApplyResourceChange'> {
  const new_identity = identityOf(call, entry, state);
  return {
    new_state: writeValue(entry.type, state),
    private: state === null ? new Uint8Array() : writePrivate(call, privateState, before),
    new_identity,
    diagnostics: call.messages(),
  };
}

async function remove(
  session: Session,
  call: Call,
  entry: Entry<AnyResource>,
  state: Values,
  privateState: PrivateState,
): Promise<boolean> {
  const timeout = timeoutOf(entry.definition, 'delete', state);
  const context = call.context(timeout);
  try {
    await entry.definition.delete({
      ...context,
      ...session.client,
      state: copyObject(state),
      timeout,
      private: privateState,
    });
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `delete ${entry.typeName}`);
  }
  return !call.diagnostics.hasErrors;
}

interface Change {
  prior: Values | null;
  planned: Values;
  config: Values;
  privateState: PrivateState;
}

async function createOrUpdate(
  session: Session,
  call: Call,
  entry: Entry<AnyResource>,
  { prior, planned, config, privateState }: Change,
): Promise<Values | null> {
  const { definition, attributes, typeName } = entry;
  const operation = prior === null ? 'create' : 'update';
  const timeout = timeoutOf(definition, operation, planned);
  // Kept apart, since Ctrl-C turns errors into a warning.
  const failures = new DiagnosticList();
  const context = call.context(timeout, failures);
  let interrupted = false;
  let saved: object | undefined;
  let returned: object | undefined;
  try {
    const shared: CreateContext<object, unknown> = {
      ...context,
      ...session.client,
      // Copies: a handler that sorts a list in place must not change what was planned.
      planned: copyObject(planned),
      config,
      timeout,
      private: privateState,
      save(state) {
        saved = { ...saved, ...state };
      },
    };
    if (prior === null) {
      returned = await definition.create(shared);
    } else if (definition.update) {
      const changed = (...path: (string | number)[]) => isChanged(attributes, prior, planned, path);
      returned = await definition.update({ ...shared, prior: copyObject(prior), changed });
    } else {
      failures.error('Bug in the provider', `${typeName} can not be updated, yet an update was planned.`);
    }
  } catch (error) {
    const stopped = addFailure(failures, error, context.signal, `${operation} ${typeName}`);
    interrupted = stopped || error instanceof UnwatchedError;
  }

  if (!isObject(returned)) {
    if (!failures.hasErrors) failures.error('Bug in the provider', `It returned no state from ${operation}.`);
    returned = undefined;
  }
  if (returned && !failures.hasErrors) {
    const state = overlay(attributes, planned, { ...saved, ...returned }, failures);
    for (const path of unknownPaths(state)) {
      failures.error('Bug in the provider', `It left ${pathText(path)} unknown.`, path);
    }
    append(call, failures.list);
    return withoutUnknowns(state);
  }
  const made = saved || returned ? { ...saved, ...returned } : undefined;
  if (prior === null && !made) {
    append(call, failures.list);
    return null;
  }
  const resumable = prior === null && interrupted;
  append(
    call,
    resumable
      ? failures.list.map((d) => ({ ...d, severity: 'warning', detail: `${d.detail ?? ''} ${RESUME}`.trim() }))
      : failures.list,
  );
  return withoutUnknowns(overlay(attributes, prior ?? planned, made ?? {}, call.diagnostics));
}

const RESUME = 'The object exists and is recorded in the state; the next apply goes on from there.';

function append(call: Call, list: readonly Diagnostic[]): void {
  for (const diagnostic of list) call.diagnostics.add(diagnostic);
}
