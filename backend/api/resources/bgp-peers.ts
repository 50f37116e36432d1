/** BGP peers. Operators declare them, and the hosts that a peer selects report their sessions with it. */
import type { FieldError } from '../../contract/errors.ts';
import { type BgpPeer, type BgpPeerBody, type BgpPeerUpdate, bgpPeer } from '../../contract/resources/bgp-peers.ts';
import type { Host } from '../../contract/resources/hosts.ts';
import { idFrom, newId } from '../../model/ids.ts';
import { peerProblems } from '../../model/network/bgp.ts';
import { formatPeerAddress, parsePeerAddress } from '../../model/network/peer-address.ts';
import * as records from '../../model/records/index.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { invalidInput } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';

/** The descriptor of BGP peers. */
export const bgpPeers: ResourceDescriptor<records.BgpPeerRecord> = describe(bgpPeer, {
  kind: records.bgpPeers,
  scope: 'operator',
  show: ({ mirror }, record) => ({ ...record, sessions: sessionsWith(mirror, record.id) }),
  alsoMirrored: [records.bgpReports, records.alive],
  handlers: { bgp_peer_create: createBgpPeer, bgp_peer_update: updateBgpPeer, bgp_peer_delete: deleteBgpPeer },
});

type Mirror = ApiContext['mirror'];

/** Returns the sessions of a host. Their states are unknown while the host is not alive. */
export function sessionsOf(mirror: Mirror, host: string): Host['bgp_sessions'] {
  const { sessions = [] } = mirror.get(records.bgpReports, host)?.value ?? {};
  if (mirror.get(records.alive, host) !== undefined) return sessions;
  return sessions.map((session) => ({ ...session, state: 'unknown' }));
}

const sessionsWith = (mirror: Mirror, peer: string): BgpPeer['sessions'] =>
  [...mirror.list(records.bgpReports)].flatMap(({ id }) =>
    sessionsOf(mirror, id).flatMap(({ peer: other, ...session }) =>
      other === peer ? [{ host: idFrom('host', id), ...session }] : [],
    ),
  );

/** Returns the record with the address in its normal spelling. @throws UcloudError `invalid_input` */
function checked(record: records.BgpPeerRecord): records.BgpPeerRecord {
  const errors: FieldError[] = peerProblems(record).map(({ field, rule }) => ({ pointer: `/${field}`, detail: rule }));
  const address = parsePeerAddress(record.address);
  if (!address.ok) errors.push({ pointer: '/address', detail: address.problem });
  if (errors.length > 0 || !address.ok) throw invalidInput(errors);
  return { ...record, address: formatPeerAddress(address.value) };
}

async function createBgpPeer(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as BgpPeerBody;
  const record = checked({ id: newId('bgp_peer'), ...body, created_at: at, updated_at: at });
  return mutate(api, request, () => creation(api, bgpPeers, record));
}

async function updateBgpPeer(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const update = request.body as BgpPeerUpdate;
  return changeObject(api, request, bgpPeers, (stored) => {
    const changed: records.BgpPeerRecord = patched(bgpPeer, stored.value, update);
    const next = checked({ ...changed, updated_at: request.now.toISOString() });
    return replacement(api, request, bgpPeers, stored, next);
  });
}

async function deleteBgpPeer(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, bgpPeers, (stored) => removal(api, request, bgpPeers, stored, {}));
}
