/** Records of the API about security groups. */
import { type Static, Type } from '@sinclair/typebox';
import { directions, type Protocol, protocolNumbers } from '../../contract/resources/security-groups.ts';
import { declared, id, kind, oneOf, scoped } from './form.ts';

const rule = Type.Object({
  direction: oneOf(directions),
  protocol: oneOf(Object.keys(protocolNumbers) as Protocol[]),
  ports: Type.Optional(Type.Array(Type.String())),
  icmp_types: Type.Optional(Type.Array(Type.Integer())),
  /** In their normal spelling (RFC 5952). */
  prefixes: Type.Optional(Type.Array(Type.String())),
  security_group: Type.Optional(id('security_group')),
  self: Type.Optional(Type.Boolean()),
  vm_selector: Type.Optional(Type.String()),
  description: Type.Optional(Type.String()),
});
export type SecurityRuleRecord = Static<typeof rule>;

/** `security-groups/<id>`. */
export const securityGroups = kind('security-groups/', {
  id: id('security_group'),
  ...scoped,
  description: Type.String(),
  default_egress: oneOf(['allow', 'deny']),
  rules: Type.Array(rule),
  /** The label selector for VMs whose interfaces have the group. */
  vm_selector: Type.Optional(Type.String()),
  delete_protection: Type.Boolean(),
  ...declared,
});
export type SecurityGroupRecord = Static<typeof securityGroups.schema>;
