/**
 * Changes of the interfaces of a VM. Pure.
 *
 * The MAC address identifies an interface. A request without MAC addresses keeps the interfaces that it means, so the order
 * of a list never changes an address.
 *
 * A running guest may use an interface for some time after its removal. The record of the VM therefore keeps its removed
 * interfaces and addresses, in `leaving_interfaces`, and they stay taken. The report of the host lists the interfaces that
 * the guest has or may have, with their addresses. The host adds an interface to its report before the guest gets it, on
 * the condition that the record of the VM is unchanged. So the API may free everything that the report does not list, on the
 * condition that the report is unchanged.
 */
import { interfaceAddresses } from '../network/interface-addresses.ts';
import type { ReportRecord, VmRecord } from '../records/index.ts';

/** An interface in the record of a VM. */
export type Interface = VmRecord['interfaces'][number];
/** An interface that the guest has, or may have. */
export type HeldInterface = NonNullable<ReportRecord['interfaces']>[number];
/** The remainder of a removed interface. */
export type LeavingInterface = NonNullable<VmRecord['leaving_interfaces']>[number];

/** The fields of a request that identify an interface, in their normal spelling. */
export interface NamedInterface {
  readonly network: string;
  readonly mac?: string | undefined;
  readonly address?: string | undefined;
}

/**
 * Returns the present interface that each entry of a request means; undefined for a new interface. An entry with a MAC
 * address means the interface with this address. Another entry means the interface of its network with the same `address`,
 * or else the next one of its network that no other entry means.
 */
export function matchInterfaces<I extends NamedInterface>(
  asked: readonly NamedInterface[],
  present: readonly I[],
): (I | undefined)[] {
  const free = new Set(present);
  const found = new Map<number, I>();
  const take = (means: (entry: NamedInterface, candidate: I) => boolean) => {
    for (const [index, entry] of asked.entries()) {
      if (found.has(index)) continue;
      const candidate = present.find((each) => free.has(each) && means(entry, each));
      if (candidate === undefined) continue;
      free.delete(candidate);
      found.set(index, candidate);
    }
  };
  const isAlike = (entry: NamedInterface, { network }: I) => entry.mac === undefined && entry.network === network;
  take((entry, { mac }) => entry.mac === mac);
  take((entry, candidate) => isAlike(entry, candidate) && entry.address === candidate.address);
  take(isAlike);
  return asked.map((_entry, index) => found.get(index));
}

/** Returns what the guest may still use of interfaces and addresses that the VM no longer declares. */
export function leavingInterfaces(
  before: {
    readonly interfaces: readonly Interface[];
    readonly leaving_interfaces?: readonly LeavingInterface[] | undefined;
  },
  next: readonly Interface[],
): LeavingInterface[] {
  const macs = new Set(next.map(({ mac }) => mac));
  const addresses = new Set(next.flatMap(interfaceAddresses));
  const declared = before.interfaces.map((each) => ({ ...each, addresses: interfaceAddresses(each) }));
  const merged = new Map<string, LeavingInterface>();
  for (const { network, mac, addresses: own } of [...(before.leaving_interfaces ?? []), ...declared]) {
    const gone = own.filter((address) => !addresses.has(address));
    if (gone.length === 0 && macs.has(mac)) continue;
    const known = merged.get(mac)?.addresses ?? [];
    merged.set(mac, { network, mac, addresses: [...new Set([...known, ...gone])] });
  }
  return [...merged.values()];
}

/** The phases in which a guest may run. In other phases it has nothing, unless the report says so. */
const guestPhases: ReadonlySet<ReportRecord['phase']> = new Set(['starting', 'running', 'stopping', 'error']);

/** Returns the interfaces that the guest has or may have; undefined if the report does not tell. */
function heldBy(report: ReportRecord | undefined): readonly HeldInterface[] | undefined {
  if (report?.interfaces !== undefined) return report.interfaces;
  return report !== undefined && guestPhases.has(report.phase) ? undefined : [];
}

/** The parts of removed interfaces that no guest uses any more. */
export interface Freed {
  readonly macs: readonly string[];
  readonly addresses: readonly string[];
  readonly networks: readonly LeavingInterface['network'][];
}

const unique = (texts: readonly string[]): string[] => [...new Set(texts)];

/** Returns the leaving interfaces without the parts that the guest has lost, and these parts. */
export function releaseInterfaces(
  vm: { readonly interfaces: readonly Interface[] },
  leaving: readonly LeavingInterface[],
  report: ReportRecord | undefined,
): { readonly leaving: LeavingInterface[]; readonly freed: Freed } {
  const held = heldBy(report);
  if (held === undefined) return { leaving: [...leaving], freed: { macs: [], addresses: [], networks: [] } };
  const declared = new Set(vm.interfaces.map(({ mac }) => mac));
  const macs = new Set(held.map(({ mac }) => mac));
  const addresses = new Set(held.flatMap((each) => each.addresses));
  const left = leaving.flatMap((each) => {
    const kept = each.addresses.filter((address) => addresses.has(address));
    return kept.length > 0 || (!declared.has(each.mac) && macs.has(each.mac)) ? [{ ...each, addresses: kept }] : [];
  });
  const keptMacs = new Set([...declared, ...left.map(({ mac }) => mac)]);
  const keptAddresses = new Set(left.flatMap((each) => each.addresses));
  // An interface without addresses has no part in its network.
  const networksOf = (list: readonly LeavingInterface[]) =>
    list.filter((each) => each.addresses.length > 0).map(({ network }) => network);
  const keptNetworks = new Set([...vm.interfaces.map(({ network }) => network), ...networksOf(left)]);
  const networks = new Set(networksOf(leaving).filter((network) => !keptNetworks.has(network)));
  return {
    leaving: left,
    freed: {
      macs: unique(leaving.flatMap(({ mac }) => (keptMacs.has(mac) ? [] : [mac]))),
      addresses: unique(leaving.flatMap((each) => each.addresses.filter((address) => !keptAddresses.has(address)))),
      networks: [...networks],
    },
  };
}

/** Returns the interfaces that the guest may use, as a report contains them. */
export const heldInterfaces = (interfaces: readonly Interface[]): HeldInterface[] =>
  interfaces.map((each) => ({ mac: each.mac, addresses: interfaceAddresses(each) }));

/** Returns the MAC addresses of the interfaces that the running guest does not have as the VM declares them. */
export function changingInterfaces(vm: Pick<VmRecord, 'interfaces'>, held: readonly HeldInterface[]): string[] {
  const describe = ({ mac, addresses, pending }: HeldInterface) =>
    `${mac} ${addresses.toSorted().join()} ${pending === true}`;
  const wanted = heldInterfaces(vm.interfaces);
  const [is, shall] = [new Set(held.map(describe)), new Set(wanted.map(describe))];
  const changing = [
    ...wanted.filter((each) => !is.has(describe(each))),
    ...held.filter((each) => !shall.has(describe(each))),
  ];
  return [...new Set(changing.map(({ mac }) => mac))];
}

/** Tells whether the list contains all these interfaces with their addresses. */
export const holdsInterfaces = (held: readonly HeldInterface[], wanted: readonly HeldInterface[]): boolean =>
  wanted.every(({ mac, addresses }) => {
    const known = held.find((each) => each.mac === mac)?.addresses;
    return known !== undefined && addresses.every((address) => known.includes(address));
  });

/** Returns the list of a guest that is about to get these interfaces and addresses in addition. */
export function withWanted(held: readonly HeldInterface[], wanted: readonly HeldInterface[]): HeldInterface[] {
  const merged = new Map(held.map((each) => [each.mac, each]));
  for (const { mac, addresses } of wanted) {
    if (holdsInterfaces(held, [{ mac, addresses }])) continue;
    const known = merged.get(mac)?.addresses ?? [];
    merged.set(mac, { mac, addresses: unique([...known, ...addresses]), pending: true });
  }
  return [...merged.values()];
}
