/** The rules of BGP peers: valid AS numbers, and the peers of a host. Pure. */
import { matches, parseSelector } from '../text/selectors.ts';

/** A declared peer, as its record has it. */
export interface DeclaredPeer {
  readonly id: string;
  readonly address: string;
  readonly asn: number;
  readonly local_asn: number;
  readonly host_selector?: string;
}

/** AS numbers that no router may have: AS_TRANS (RFC 6793), and the last of 16 and of 32 bits (RFC 7300). */
const reservedAsns: readonly number[] = [0, 23456, 65535, 2 ** 32 - 1];

/** Returns the fields of a peer that break a rule, each with its rule; none if all are right. */
export function peerProblems({
  asn,
  local_asn,
}: Pick<DeclaredPeer, 'asn' | 'local_asn'>): { readonly field: 'asn' | 'local_asn'; readonly rule: string }[] {
  const reserved = Object.entries({ asn, local_asn }).flatMap(([field, number]) =>
    reservedAsns.includes(number)
      ? [{ field: field as 'asn' | 'local_asn', rule: `must not be ${number}, which is reserved (RFC 6793, RFC 7300)` }]
      : [],
  );
  if (reserved.length > 0 || asn !== local_asn) return reserved;
  return [{ field: 'local_asn', rule: 'must differ from asn: hosts have only external BGP sessions' }];
}

function selects({ host_selector: text }: DeclaredPeer, labels: Readonly<Record<string, string>>): boolean {
  if (text === undefined) return true;
  const selector = parseSelector(text);
  return typeof selector !== 'string' && matches(selector, labels);
}

/**
 * Returns the peers of a host with these labels, in the order of their ids. A router can have one session with a host. Of
 * several peers with one address, `peers` has the first, and `surplus` the others.
 */
export function peersOf<P extends DeclaredPeer>(
  declared: Iterable<P>,
  labels: Readonly<Record<string, string>>,
): { readonly peers: readonly P[]; readonly surplus: readonly P[] } {
  const first = new Map<string, P>();
  const surplus: P[] = [];
  for (const peer of [...declared].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    if (!selects(peer, labels)) continue;
    if (first.has(peer.address)) surplus.push(peer);
    else first.set(peer.address, peer);
  }
  return { peers: [...first.values()], surplus };
}
