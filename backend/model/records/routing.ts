/** Records of the API about routes: prefixes that lead to VMs, and the routers to which hosts announce prefixes. */
import { type Static, Type } from '@sinclair/typebox';
import { declared, id, kind, labels, scoped } from './form.ts';

/** `prefix-routes/<id>`. */
export const prefixRoutes = kind('prefix-routes/', {
  id: id('prefix_route'),
  ...scoped,
  prefix: id('prefix'),
  cidr: Type.String(),
  length: Type.Integer(),
  /** The VM, which may be gone. */
  vm: id('vm'),
  /** The network of the next hop, if the declaration names it. */
  network: Type.Optional(id('network')),
  /** The MAC address of the VM's interface that is the next hop. */
  mac: Type.String(),
  delete_protection: Type.Boolean(),
  ...declared,
});
export type PrefixRouteRecord = Static<typeof prefixRoutes.schema>;

/** `bgp-peers/<id>`. The password of the session is in a file on the hosts, never in the database. */
export const bgpPeers = kind('bgp-peers/', {
  id: id('bgp_peer'),
  name: Type.String(),
  description: Type.String(),
  labels,
  /** The normal spelling of `parsePeerAddress`. */
  address: Type.String(),
  asn: Type.Integer(),
  local_asn: Type.Integer(),
  password_file: Type.Optional(Type.String()),
  /** The label selector for the hosts with a session. Default: all hosts. */
  host_selector: Type.Optional(Type.String()),
  ...declared,
});
export type BgpPeerRecord = Static<typeof bgpPeers.schema>;
