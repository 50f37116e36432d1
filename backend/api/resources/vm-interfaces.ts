/**
 * The interfaces of a VM with their addresses. A record for each MAC address and each IPv6 address makes them unique: the
 * transaction of the VM writes it, on the condition that there is none.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { maxAddresses, maxHeldAddresses, maxInterfaces, maxVmGroups } from '../../contract/resources/vm-interfaces.ts';
import type { VmBody } from '../../contract/resources/vms.ts';
import {
  addressKey,
  defaultMac,
  formatIpv6,
  interfaceId,
  isInComputedRange,
  isReservedInterfaceId,
  macKey,
  slaacAddress,
  storedIpv6,
} from '../../model/network/addresses.ts';
import { addressProblem, derivedAddress, interfaceAddresses } from '../../model/network/interface-addresses.ts';
import { type Prefix, storedPrefix } from '../../model/network/prefixes.ts';
import * as records from '../../model/records/index.ts';
import {
  type Freed,
  heldInterfaces,
  type Interface,
  type LeavingInterface,
  leavingInterfaces,
  matchInterfaces,
  releaseInterfaces,
} from '../../model/vm/interfaces.ts';
import { absent, put, remove, unchanged } from '../../store/collection.ts';
import type { Entry, Write } from '../../store/store.ts';
import type { ApiContext, Caller } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { addReference, inUse, removeReference } from '../transaction/declarations.ts';
import type { Guard } from '../transaction/mutate.ts';
import { networks } from './networks.ts';
import { useGroups } from './security-groups.ts';

type Asked = VmBody['interfaces'][number];

/** The number of default MAC addresses that were taken, by interface. */
export type Probes = number[];

/** The MAC addresses and addresses of the interfaces in one request, by their keys. */
interface Chosen {
  readonly macs: Set<string>;
  readonly addresses: Set<string>;
}

/** Returns the MAC address of an interface. Notes in `probes` which default addresses the request itself has. */
function chooseMac(
  { project, name }: { readonly project: Id<'project'>; readonly name: string },
  asked: Asked,
  index: number,
  { macs }: Chosen,
  probes: Probes,
): string {
  const at = `/interfaces/${index}/mac`;
  let mac = asked.mac ?? defaultMac(project, name, index, probes[index] ?? 0);
  while (asked.mac === undefined && (macs.has(macKey(mac)) || isReservedInterfaceId(interfaceId(mac)))) {
    probes[index] = (probes[index] ?? 0) + 1;
    mac = defaultMac(project, name, index, probes[index]);
  }
  // The error must not reveal whose address it would be, or whether such a VM exists.
  if (asked.mac !== undefined && isInComputedRange(mac) && mac !== defaultMac(project, name, index, 0)) {
    throw fieldError('rule_violated', at, 'must not begin with 42: ucloud computes these addresses');
  }
  if (macs.has(macKey(mac))) {
    throw fieldError('address_taken', at, 'must differ from the other interfaces of this VM');
  }
  if (isReservedInterfaceId(interfaceId(mac))) {
    throw fieldError('rule_violated', at, 'must not result in a reserved interface identifier (RFC 5453)');
  }
  return mac;
}

/** Returns the addresses that the request names, in their normal spelling. @throws UcloudError `rule_violated` */
function chosenAddresses(asked: Asked, mac: string, subnet: Prefix, at: string) {
  const derived = formatIpv6(slaacAddress(subnet.address, mac));
  const read = (text: string, pointer: string) => {
    const value = storedIpv6(text);
    const address = formatIpv6(value);
    const problem = address === derived ? undefined : addressProblem(subnet, value);
    if (problem !== undefined) throw fieldError('rule_violated', pointer, problem);
    return address;
  };
  const address = asked.address === undefined ? derived : read(asked.address, `${at}/address`);
  const known = new Set([address, derived]);
  const secondary = (asked.secondary_addresses ?? []).map((text, index) => {
    const pointer = `${at}/secondary_addresses/${index}`;
    const each = read(text, pointer);
    if (known.has(each)) {
      const rule = 'must differ from the other addresses of the interface, also from the derived one';
      throw fieldError('rule_violated', pointer, rule);
    }
    known.add(each);
    return each;
  });
  return { address, secondary };
}

/** Returns the field of the request that an address comes from. */
function fieldOf({ mac, address, secondary_addresses = [] }: Interface, each: string, at: string): string {
  const index = secondary_addresses.indexOf(each);
  if (index >= 0) return `${at}/secondary_addresses/${index}`;
  return each === derivedAddress({ mac, address }) ? `${at}/mac` : `${at}/address`;
}

/** The VM whose interfaces a request declares. A new VM has no present interfaces. */
interface Owner {
  readonly id: Id<'vm'>;
  readonly project: Id<'project'>;
  /** The name that the VM has after the request. */
  readonly name: string;
  readonly interfaces: readonly Interface[];
  readonly leaving_interfaces?: readonly LeavingInterface[] | undefined;
}

/** The interfaces of a declaration, with the guards that make their addresses unique. */
export interface DeclaredInterfaces {
  readonly interfaces: Interface[];
  readonly leaving: readonly LeavingInterface[];
  readonly guards: readonly Guard[];
  readonly writes: readonly Write[];
}

const normalAddress = (text: string | undefined): string | undefined =>
  text === undefined ? undefined : formatIpv6(storedIpv6(text));

/** Returns the security groups that interfaces name. */
export const groupsNamedBy = (interfaces: readonly Pick<Interface, 'security_groups'>[]) =>
  interfaces.flatMap(({ security_groups: groups = [] }, index) =>
    groups.map((group, at) => ({ group, pointer: `/interfaces/${index}/security_groups/${at}` })),
  );

/** Returns the interfaces with their addresses. Present interfaces stay as they are, as far as the request means them. */
export function declareInterfaces(
  api: ApiContext,
  vm: Owner,
  asked: readonly Asked[],
  probes: Probes,
): DeclaredInterfaces {
  const { id, project } = vm;
  const leaving = vm.leaving_interfaces ?? [];
  const named = asked.map(({ address, ...each }) => ({ ...each, address: normalAddress(address) }));
  const kept = matchInterfaces(named, vm.interfaces);
  /** The VM holds these already, so they are not free for others. */
  const own = {
    macs: new Map([...vm.interfaces, ...leaving].map(({ mac, network }) => [macKey(mac), network])),
    addresses: new Set([...vm.interfaces.flatMap(interfaceAddresses), ...leaving.flatMap((each) => each.addresses)]),
  };
  const keptMacs = new Set(kept.flatMap((each) => (each ? [each.mac] : [])));
  const chosen: Chosen = { macs: new Set(), addresses: new Set() };
  const guards: Guard[] = [];
  const writes = new Map<string, Write>();
  const write = (each: Write) => {
    // Two interfaces in one network share one reference.
    if ('put' in each) writes.set(each.put, each);
  };
  const declare = (entry: Asked, index: number): Interface => {
    const at = `/interfaces/${index}`;
    const present = kept[index];
    const known = entry.mac === undefined ? present?.network : own.macs.get(macKey(entry.mac));
    if (known !== undefined && known !== entry.network) {
      throw fieldError(
        'rule_violated',
        `${at}/network`,
        `must stay ${known}: the interface ${entry.mac} belongs to it`,
      );
    }
    const network = addReference(api, networks, { project, id: entry.network, pointer: `${at}/network`, user: id });
    // A default address differs from those of all other interfaces of the VM.
    const others: Chosen = { ...chosen, macs: new Set([...chosen.macs, ...own.macs.keys()]) };
    const isOwn = entry.mac !== undefined && own.macs.has(macKey(entry.mac));
    const mac = present?.mac ?? (isOwn ? entry.mac : chooseMac(vm, entry, index, entry.mac ? chosen : others, probes));
    const probe = probes[index] ?? 0;
    if (mac === undefined || chosen.macs.has(macKey(mac)) || (present === undefined && keptMacs.has(mac))) {
      throw fieldError('address_taken', `${at}/mac`, 'must differ from the other interfaces of this VM');
    }
    const wanted = { ...entry, address: entry.address ?? present?.address };
    const { address, secondary } = chosenAddresses(wanted, mac, storedPrefix(network.stored.value.cidr), at);
    const next: Interface = {
      network: entry.network,
      mac,
      address,
      ...(secondary.length > 0 && { secondary_addresses: secondary }),
      ...(entry.security_groups?.length && { security_groups: entry.security_groups }),
    };
    const taken = (pointer: string) => (holders: readonly Entry[]) => {
      // Another request has just given it to this VM, so the decision was based on an old record.
      if (holders.some(({ value }) => JSON.parse(value).id === id)) return undefined;
      if (entry.mac !== undefined || pointer !== `${at}/mac`) return fieldError('address_taken', pointer, 'is taken');
      probes[index] = probe + 1;
      return undefined;
    };
    chosen.macs.add(macKey(mac));
    guards.push(...network.guards);
    for (const each of network.writes) write(each);
    if (!own.macs.has(macKey(mac))) {
      guards.push({ condition: absent(records.macs, macKey(mac)), otherwise: taken(`${at}/mac`) });
      write(put(records.macs, macKey(mac), { id }));
    }
    for (const each of interfaceAddresses(next)) {
      const pointer = fieldOf(next, each, at);
      const key = addressKey(storedIpv6(each));
      if (chosen.addresses.has(key)) {
        throw fieldError('address_taken', pointer, 'must differ from the addresses of the other interfaces of this VM');
      }
      chosen.addresses.add(key);
      if (own.addresses.has(each)) continue;
      guards.push({ condition: absent(records.addresses, key), otherwise: taken(pointer) });
      write(put(records.addresses, key, { id }));
    }
    return next;
  };
  const interfaces = asked.map(declare);
  if (chosen.addresses.size > maxAddresses) {
    const detail = `must have at most ${maxAddresses} addresses in all, with the derived ones, not ${chosen.addresses.size}`;
    throw fieldError('rule_violated', '/interfaces', detail);
  }
  const held = new Set(groupsNamedBy(vm.interfaces).map(({ group }) => group));
  const groups = groupsNamedBy(interfaces);
  if (new Set(groups.map(({ group }) => group)).size > maxVmGroups) {
    throw fieldError('rule_violated', '/interfaces', `must name at most ${maxVmGroups} different security groups`);
  }
  const uses = useGroups(api, project, id, groups, held);
  return {
    interfaces,
    leaving: leavingInterfaces(vm, interfaces),
    guards: [...guards, ...uses.guards],
    writes: [...writes.values(), ...uses.writes],
  };
}

/** Returns the writes that free parts of removed interfaces. */
export const freeingWrites = (vm: Id<'vm'>, { macs, addresses, networks }: Freed): Write[] => [
  ...macs.map((mac) => remove(records.macs, macKey(mac))),
  ...addresses.map((each) => remove(records.addresses, addressKey(storedIpv6(each)))),
  ...networks.map((network) => removeReference(network, vm)),
];

/** Returns the record with these leaving interfaces; without the field if there are none. */
export function withLeaving(vm: records.VmRecord, leaving: readonly LeavingInterface[]): records.VmRecord {
  const { leaving_interfaces: _before, ...others } = vm;
  return leaving.length === 0 ? others : { ...others, leaving_interfaces: [...leaving] };
}

/** Tells whether the interfaces differ in their security groups alone. */
const hasEqualLinks = (a: readonly Interface[], b: readonly Interface[]): boolean => {
  const [one, other] = [a, b].map((list) => list.map(({ security_groups: _groups, ...link }) => link));
  return JSON.stringify(one) === JSON.stringify(other);
};

/**
 * Returns the record of a VM with these interfaces, and what the change needs. A guest that does not run has no interfaces,
 * so removed ones are free at once.
 * @throws UcloudError `in_use` if a prefix is routed to a removed interface
 */
export function changeInterfaces(
  api: ApiContext,
  caller: Caller,
  vm: records.VmRecord,
  asked: readonly Asked[],
  probes: Probes,
): { readonly vm: records.VmRecord; readonly guards: readonly Guard[]; readonly writes: readonly Write[] } {
  const { interfaces, leaving, guards, writes } = declareInterfaces(api, vm, asked, probes);
  if (JSON.stringify(interfaces) === JSON.stringify(vm.interfaces)) return { vm, guards: [], writes: [] };
  const macs = new Set(interfaces.map(({ mac }) => mac));
  for (const { mac } of vm.interfaces.filter((each) => !macs.has(each.mac))) {
    const routes = [...api.mirror.list(records.prefixRoutes)].filter(
      ({ value }) => value.vm === vm.id && value.mac === mac,
    );
    if (routes.length > 0)
      throw inUse(
        api,
        caller,
        `the interface ${mac}`,
        routes.map(({ id }) => id),
      );
  }
  const report = api.mirror.get(records.reports, vm.id);
  const released = releaseInterfaces({ interfaces }, leaving, report?.value);
  const held = [...heldInterfaces(interfaces), ...released.leaving];
  const addresses = new Set(held.flatMap((each) => each.addresses));
  if (addresses.size > maxHeldAddresses || new Set(held.map(({ mac }) => mac)).size > 2 * maxInterfaces) {
    const detail =
      'must change less at once, because the guest still has former interfaces and addresses; try again later, or restart the VM';
    throw new UcloudError('invalid_state', `/interfaces ${detail}`, { errors: [{ pointer: '/interfaces', detail }] });
  }
  const changed = {
    ...vm,
    interfaces,
    // The guest does not see the groups, so they wait for nothing.
    ...(!hasEqualLinks(interfaces, vm.interfaces) && { interfaces_generation: vm.generation + 1 }),
  };
  return {
    vm: withLeaving(changed, released.leaving),
    guards: [
      ...guards,
      ...(leaving.length > 0
        ? [{ condition: report ? unchanged(report) : absent(records.reports, vm.id), otherwise: () => undefined }]
        : []),
    ],
    writes: [...freeingWrites(vm.id, released.freed), ...writes],
  };
}
