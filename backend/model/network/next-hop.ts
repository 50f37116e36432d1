/** The next hop of a routed prefix: one interface of its VM. Pure. */
import type { Id } from '../../contract/fields.ts';
import type { VmRecord } from '../records/index.ts';

type Interface = VmRecord['interfaces'][number];

/** A field of the declaration, and the rule that it breaks. */
export interface NextHopProblem {
  readonly field: 'vm' | 'network';
  readonly rule: string;
}

/** Returns the interface of the VM that is the next hop, or the problem of the declaration. */
export function nextHop(
  { id, interfaces }: Pick<VmRecord, 'id' | 'interfaces'>,
  network: Id<'network'> | undefined,
): Interface | NextHopProblem {
  const found = network === undefined ? interfaces : interfaces.filter((each) => each.network === network);
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  if (network === undefined) {
    return { field: 'network', rule: `must be set, because the VM ${id} has ${interfaces.length} interfaces` };
  }
  return first === undefined
    ? { field: 'network', rule: `must be a network of the VM ${id}, which has no interface in ${network}` }
    : { field: 'vm', rule: `must have only one interface in ${network}: ${id} has ${found.length} there` };
}

/** Returns the present address of the next hop; undefined if the VM has this interface no longer. */
export const nextHopAddress = (vm: Pick<VmRecord, 'interfaces'> | undefined, mac: string): string | undefined =>
  vm?.interfaces.find((each) => each.mac === mac)?.address;
