/** Checks of host selectors. Users must not learn labels of hosts that the operator has not published. */
import { hostSelectorOf, unpublishedLabels } from '../../model/placement/host-selector.ts';
import type { ApiContext, ApiRequest } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import type { Guard } from '../transaction/mutate.ts';
import { selectableHostLabels } from './settings.ts';

/**
 * Returns the guards that the caller may use the selector. The error is the same whether or not a host has the label.
 * @throws UcloudError `rule_violated` if the selector names a label that the operator has not published
 */
export function hostSelectorGuards(
  api: ApiContext,
  caller: ApiRequest['caller'],
  text: string | undefined,
  pointer: string,
): Guard[] {
  const selector = hostSelectorOf({ ...(text !== undefined && { host_selector: text }) });
  if (selector === undefined || caller.role === 'operator') return [];
  const { keys, guard } = selectableHostLabels(api);
  const unknown = unpublishedLabels(selector, keys);
  if (unknown.length === 0) return [guard];
  const allowed = keys.length === 0 ? 'there are none' : `these are ${keys.toSorted().join(', ')}`;
  throw fieldError(
    'rule_violated',
    pointer,
    `must name only labels that the operator has published: ${allowed}; it names ${unknown.join(', ')}`,
  );
}
