/** PlanResourceChange: the plan rules of `../plan.ts` around the definition's own `modifyPlan`. */
import { DEFERRED, type Request } from '../../protocol/messages.ts';
import type { Values } from '../../protocol/values.ts';
import type { Attributes } from '../attributes.ts';
import type { AttributePath } from '../diagnostics.ts';
import { equalValues } from '../equality.ts';
import { pathMessage, pathText, typeAt, valueAt } from '../paths.ts';
import { contradictions, equalObjects, markVolatile, planObject, replacementPaths, restoreVolatile } from '../plan.ts';
import { conform, copyObject } from '../state.ts';
import type { PrivateState } from '../types.ts';
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
import type { AnyResource, Entry } from './registry.ts';
import type { Session } from './session.ts';

export const planResourceChange: Handler<'PlanResourceChange'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const prior = readObject(entry.type, request.prior_state);
  const proposed = readObject(entry.type, request.proposed_new_state);
  if (proposed === null) return planDestroy(session, request, call, entry, prior);

  const config = requireObject(entry.type, request.config, 'configuration');
  // The creation in a replacement gets the private data of the old object, which the new object must not have.
  const privateState = prior === null ? {} : readPrivate(request.prior_private);
  const { planned, replace } = await plan(session, call, entry, prior, config, privateState);
  const planned_identity = identityOf(call, entry, prior);
  return {
    planned_state: writeValue(entry.type, planned),
    requires_replace: replace.map((path) => pathMessage(entry.attributes, path)),
    planned_private: writePrivate(call, privateState, prior === null ? undefined : request.prior_private),
    planned_identity,
    ...(session.defers(request.client_capabilities) && { deferred: { reason: DEFERRED.providerConfigUnknown } }),
    diagnostics: call.messages(),
  };
};

async function planDestroy(
  session: Session,
  request: Request<'PlanResourceChange'>,
  call: Call,
  entry: Entry<AnyResource>,
  prior: Values | null,
) {
  if (prior !== null) {
    const context = call.context();
    try {
      await entry.definition.planDestroy?.({ ...context, ...session.clientIfKnown, state: prior });
    } catch (error) {
      addFailure(call.diagnostics, error, context.signal, `plan to destroy ${entry.typeName}`);
    }
  }
  const planned_identity = identityOf(call, entry, prior);
  return {
    planned_state: writeValue(entry.type, null),
    planned_private: request.prior_private,
    planned_identity,
    ...(session.defers(request.client_capabilities) && { deferred: { reason: DEFERRED.providerConfigUnknown } }),
    diagnostics: call.messages(),
  };
}

async function plan(
  session: Session,
  call: Call,
  entry: Entry<AnyResource>,
  prior: Values | null,
  config: Values,
  privateState: PrivateState,
): Promise<{ planned: Values; replace: AttributePath[] }> {
  const { attributes, definition } = entry;
  const first = planObject(attributes, config, prior);
  const changedByConfig = prior !== null && !equalObjects(attributes, first, prior);
  let planned = changedByConfig ? markVolatile(attributes, first, config, prior) : first;
  const demanded: AttributePath[] = [];

  if (definition.modifyPlan) {
    const draft = copyObject(planned);
    const context = call.context();
    try {
      await definition.modifyPlan({
        ...context,
        ...session.clientIfKnown,
        action: prior === null ? 'create' : 'update',
        prior: prior && copyObject(prior),
        config: copyObject(config),
        planned: draft,
        private: privateState,
        changed: (...path) => isChanged(entry.attributes, prior, draft, path),
        requiresReplace: (...path) => void demanded.push(path),
      });
    } catch (error) {
      addFailure(call.diagnostics, error, context.signal, `plan ${entry.typeName}`);
    }
    const modified = conform(attributes, draft, planned, 'planned', call.diagnostics);
    for (const path of contradictions(attributes, modified, config, prior)) {
      call.diagnostics.error(
        'Bug in the provider',
        `The planned value of ${pathText(path)} differs from the configured one.`,
        path,
      );
    }
    planned = modified;
    if (prior !== null && changedByConfig) {
      // modifyPlan may have taken back the only change.
      const restored = restoreVolatile(attributes, planned, config, prior);
      if (equalObjects(attributes, restored, prior)) planned = restored;
    } else if (prior !== null && !equalObjects(attributes, planned, prior)) {
      planned = markVolatile(attributes, planned, config, prior);
    }
  }
  if (prior === null) return { planned, replace: [] };
  const replace = replacementPaths(attributes, planned, config, prior);
  for (const path of demanded) if (isChanged(attributes, prior, planned, path)) replace.push(path);
  return { planned, replace };
}

/** Returns true if a planned value differs from the prior one. Without a prior object, every value differs. */
export function isChanged(attributes: Attributes, prior: Values | null, planned: Values, path: AttributePath): boolean {
  if (prior === null) return true;
  if (path.length === 0) return !equalObjects(attributes, planned, prior);
  return !equalValues(typeAt(attributes, path) ?? 'dynamic', valueAt(planned, path), valueAt(prior, path));
}
