/**
 * The space of a prefix, which networks and routes share. The conditions of both find every overlap in the database itself,
 * so two overlapping spaces cannot both commit.
 */
import { storedIpv6 } from '../../model/network/addresses.ts';
import {
  comparePrefixes,
  networkOf,
  outerKeys,
  overlaps,
  type Prefix,
  spaceKeys,
  storedPrefix,
  subnetKey,
} from '../../model/network/prefixes.ts';
import * as records from '../../model/records/index.ts';
import { absent, noneBelow } from '../../store/collection.ts';
import type { Condition } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';

const subnetLength = 64;
const subnetDigits = subnetLength / 4;

/** Iterates over the /64s of networks from the start of the prefix, in order. */
function* subnetsFrom(api: ApiContext, { address }: Prefix): Generator<Prefix, void> {
  const before = subnetKey({ address: address - 1n, length: subnetLength });
  for (const { id } of api.mirror.list(records.subnets, '', before)) {
    yield { address: BigInt(`0x${id}`) << 64n, length: subnetLength };
  }
}

/** Returns the /64s with underlay addresses of hosts, in order. A guest in one of them could claim the address of a host. */
export const reservedSubnets = ({ mirror }: ApiContext): Prefix[] =>
  [...mirror.list(records.hosts)]
    .flatMap(({ value: { underlay } }) => underlay?.address ?? [])
    .map((address) => networkOf(storedIpv6(address), subnetLength))
    .sort(comparePrefixes);

/** Iterates over the used and the reserved spaces from the start of the prefix, in order. */
export function* usedSpaces(api: ApiContext, { id, cidr }: records.PrefixRecord): Generator<Prefix, void> {
  const space = storedPrefix(cidr);
  const routed = [...api.mirror.by(records.prefixRoutes, 'prefix').list(id)];
  const others = [
    ...reservedSubnets(api).filter((subnet) => overlaps(space, subnet)),
    ...routed.map(({ value }) => storedPrefix(value.cidr)),
  ].sort(comparePrefixes);
  let next = 0;
  for (const subnet of subnetsFrom(api, space)) {
    for (let other = others[next]; other && other.address <= subnet.address; other = others[++next]) yield other;
    yield subnet;
  }
  yield* others.slice(next);
}

/** Returns the conditions that no route within the prefix overlaps the space. */
export const noRouteIn = (prefix: Prefix, space: Prefix): Condition[] => [
  ...spaceKeys(space).map((key) => noneBelow(records.routedPrefixes, key)),
  ...outerKeys(space, prefix).map((key) => absent(records.routedPrefixes, key)),
];

/** Returns the conditions that no network overlaps the space. */
export const noNetworkIn = (space: Prefix): Condition[] =>
  space.length > subnetLength
    ? [absent(records.subnets, subnetKey(space))]
    : spaceKeys(space).map((key) => noneBelow(records.subnets, key.slice(0, subnetDigits)));
