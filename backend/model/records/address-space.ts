/** Records of the API about IPv6 space: the pools of operators, the prefixes of projects, and their networks. */
import { type Static, Type } from '@sinclair/typebox';
import { networkKinds } from '../../contract/resources/networks.ts';
import { declared, id, kind, labels, oneOf, scoped } from './form.ts';

/** Records of earlier versions lack this field; they are not protected. */
const laterProtection = Type.Optional(Type.Boolean());

/** `prefix-pools/<id>`. */
export const prefixPools = kind('prefix-pools/', {
  id: id('prefix_pool'),
  name: Type.String(),
  description: Type.String(),
  labels,
  cidr: Type.String(),
  default_length: Type.Integer(),
  /** For the default see minLengthOf. */
  min_length: Type.Optional(Type.Integer()),
  delete_protection: laterProtection,
  ...declared,
});
export type PrefixPoolRecord = Static<typeof prefixPools.schema>;

/** `prefixes/<id>`. */
export const prefixes = kind('prefixes/', {
  id: id('prefix'),
  ...scoped,
  pool: id('prefix_pool'),
  cidr: Type.String(),
  length: Type.Integer(),
  delete_protection: laterProtection,
  ...declared,
});
export type PrefixRecord = Static<typeof prefixes.schema>;

/** `networks/<id>`. */
export const networks = kind('networks/', {
  id: id('network'),
  ...scoped,
  prefix: id('prefix'),
  cidr: Type.String(),
  /** Default: `bridged`. */
  kind: Type.Optional(oneOf(networkKinds)),
  mtu: Type.Integer(),
  dns_servers: Type.Array(Type.String()),
  default_security_groups: Type.Optional(Type.Array(id('security_group'))),
  vni: Type.Integer(),
  delete_protection: laterProtection,
  ...declared,
});
export type NetworkRecord = Static<typeof networks.schema>;
