/**
 * ApplyResourceChange: create, update or delete one object.
 *
 * Terraform knows an object only from the state that this call returns. So every outcome has a defined state:
 * - A create that fails after `save` returns the saved attributes and the error. Terraform then marks the object as tainted
 *   and replaces it.
 * - A create that Ctrl-C interrupts after `save`, or whose object cannot be observed any more, returns the saved attributes
 *   and a warning. The object has no fault, so the next run reads it and continues.
 * - A create that fails before `save` has created nothing, and returns no state.
 * - A failed update or delete returns the prior state with the saved attributes, and the next run tries again.
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

/** Returns the time limit of an operation in milliseconds: that of the user, else the default of the definition. */
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
  // A separate list, because Ctrl-C turns errors into a warning.
  const failures = new DiagnosticList();
  const context = call.context(timeout, failures);
  let interrupted = false;
  let saved: object | undefined;
  let returned: object | undefined;
  try {
    const shared: CreateContext<object, unknown> = {
      ...context,
      ...session.client,
      // The handler gets copies, so that sorting a list in place does not change the plan.
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
      failures.error('Bug in the provider', `The plan contains an update, and ${typeName} has no handler for updates.`);
    }
  } catch (error) {
    const stopped = addFailure(failures, error, context.signal, `${operation} ${typeName}`);
    interrupted = stopped || error instanceof UnwatchedError;
  }

  if (!isObject(returned)) {
    if (!failures.hasErrors) failures.error('Bug in the provider', `The handler of ${operation} returned no state.`);
    returned = undefined;
  }
  if (returned && !failures.hasErrors) {
    const state = overlay(attributes, planned, { ...saved, ...returned }, failures);
    for (const path of unknownPaths(state)) {
      failures.error('Bug in the provider', `The handler returned an unknown value for ${pathText(path)}.`, path);
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

const RESUME = 'The object exists and the state contains it. The next apply continues.';

function append(call: Call, list: readonly Diagnostic[]): void {
  for (const diagnostic of list) call.diagnostics.add(diagnostic);
}
