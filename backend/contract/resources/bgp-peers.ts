import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import {
  common,
  Description,
  Enum,
  exampleId,
  IdOf,
  LabelSelector,
  Labels,
  Name,
  Reference,
  Timestamp,
  Whole,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The states of a session. */
export const sessionStates = ['established', 'connecting', 'down'] as const;

/** The greatest AS number (RFC 6793), which is reserved (RFC 7300). */
const lastAsn = 2 ** 32 - 1;

const asn = (description: string) => Whole({ minimum: 1, maximum: lastAsn - 1, description });

/** The fields of a session, without the two ends of it. */
export const sessionFields = {
  state: Enum([...sessionStates, 'unknown'], {
    description:
      'State of the session. `established`: the host announces its prefixes to the peer. `connecting`: the host tries to reach the peer. `down`: it does not try at the moment. `unknown`: the agent of the host is not alive.',
  }),
  since: Type.Optional(Timestamp({ description: 'Time of the last change of the state.' })),
  message: Type.Optional(Type.String({ description: 'Last error of the session.' })),
  imported: Whole({
    description: 'Number of routes that the host accepts from the peer. Hosts accept only a default route.',
  }),
};

const Session = Type.Object(
  { host: Reference('host', { description: 'The host.' }), ...sessionFields },
  { additionalProperties: false, description: 'Session of one host with the peer.' },
);

/** The resource of BGP peers. */
export const bgpPeer = resource({
  noun: 'bgp_peer',
  plural: 'bgp-peers',
  description:
    'A router of the fabric, declared by the operator. Hosts announce the prefixes of their VMs to it by BGP (RFC 4271, RFC 2545), and accept only a default route from it.',
  immutable: {},
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    address: Type.String({
      format: 'peer-address',
      maxLength: 61,
      description:
        'Address of the peer: an IPv6 address such as `2001:db8::1`, or a link-local address with the interface of the hosts, such as `fe80::a%eth0`. The peer must be on a link of the host.',
    }),
    asn: asn('AS number of the peer.'),
    local_asn: asn('AS number of the hosts, other than `asn`: sessions are external ones.'),
    password_file: Type.Optional(
      Type.String({
        // No part of a path is `.` or `..`.
        pattern: '^(/(?!\\.{1,2}(/|$))[A-Za-z0-9_.@+-]+)+$',
        maxLength: 400,
        'x-rule': 'an absolute path of letters, digits and `_.@+-`, without `..` and without a slash at its end',
        description:
          'Absolute path of the file with the password of the session (RFC 2385), on each host. The password itself never enters the database. Default: no password.',
      }),
    ),
    host_selector: Type.Optional(
      LabelSelector({
        description:
          'Label selector for the hosts that have a session with the peer, such as `rack=r1`. Default: all hosts.',
      }),
    ),
  },
  readonly: {
    id: IdOf('bgp_peer'),
    sessions: Type.Array(Session, { 'x-volatile': true, description: 'Sessions, as the hosts report them.' }),
    ...common,
  },
  defaulted: ['description', 'labels'],
  optional: ['password_file', 'host_selector'],
});
export type BgpPeer = ItemType<typeof bgpPeer>;
export type BgpPeerCreate = CreateType<typeof bgpPeer>;
export type BgpPeerBody = BodyType<typeof bgpPeer>;
export type BgpPeerUpdate = UpdateType<typeof bgpPeer>;

const declaration = { name: 'spine', address: 'fe80::a%eth0', asn: 4200000000, local_asn: 4200000001 };

const example: BgpPeer = {
  id: exampleId('bgp_peer'),
  description: '',
  labels: {},
  ...declaration,
  password_file: '/etc/ucloud/bgp-password',
  host_selector: 'rack=r1',
  sessions: [{ host: exampleId('host'), state: 'established', since: '2026-01-01T00:00:00.000Z', imported: 1 }],
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 17,
};

/** The endpoints of BGP peers. */
export const bgpPeerEndpoints = crud(bgpPeer, {
  read: 'operator',
  write: 'operator',
  scoped: false,
  example: { create: declaration, item: example, update: { host_selector: 'rack in (r1,r2)' } },
});
