/** The security groups of the interfaces of a host, as far as they decide which interfaces may be open. Pure. */
import { tapOf } from '../../model/network/interface-names.ts';
import type { InterfaceSpec, SecuritySpec } from '../hypervisor/specs.ts';
import { type GroupFilter, groupFilter } from './group-filter.ts';
import type { Port } from './tap-filter.ts';

type Guest = Pick<InterfaceSpec, 'mac' | 'network' | 'tap'>;

/** The groups of interfaces. */
export class InterfaceGroups {
  /** The declared filters. Undefined: no interface is filtered. */
  readonly spec: SecuritySpec | undefined;
  readonly #groupsOf: ReadonlyMap<string, readonly string[]>;

  constructor(spec: SecuritySpec | undefined) {
    this.spec = spec;
    this.#groupsOf = new Map(spec?.interfaces.map(({ mac, groups }) => [mac, groups]));
  }

  /** Tells whether the interface may be open: its groups are known, and its bridge filters frames if it must. */
  mayOpen(guest: Guest, bridgesAreFiltered: boolean): boolean {
    if (this.spec !== undefined && !this.#groupsOf.has(guest.mac)) return false;
    return bridgesAreFiltered || !this.isFiltered(guest);
  }

  /** Tells whether the interface has groups, and shares a link with other guests. Its bridge must then filter frames. */
  isFiltered({ mac, network }: Guest): boolean {
    return network.kind !== 'routed' && (this.#groupsOf.get(mac) ?? []).length > 0;
  }

  /** Returns the faults of interfaces that stay closed because the kernel cannot filter frames between guests. */
  faultsWithoutFilter(guests: readonly Guest[]): Map<string, string> {
    const fault = 'has security groups, but the kernel has no br_netfilter: load the module, or use a routed network';
    const closed = guests.filter((guest) => this.isFiltered(guest));
    return new Map(closed.map((each) => [tapOf(each), `the interface ${each.mac} ${fault}`]));
  }

  /** Returns the filters of those interfaces that have groups. */
  filterOf(ports: readonly Pick<Port, 'mac' | 'addresses' | 'prefixes'>[]): GroupFilter {
    return groupFilter(this.spec ?? { groups: [], peers: [], interfaces: [] }, ports);
  }
}
