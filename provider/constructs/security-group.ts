/** A security group. */
import type { IResolvable } from 'cdktf';
import { Construct } from 'constructs';
import {
  type SecurityGroupConfig as ResourceConfig,
  SecurityGroup as SecurityGroupResource,
  type SecurityGroupRules,
} from './bindings/security-group/index.ts';
import { fail, validateName } from './checks.ts';
import { idOf, type Reference } from './reference.ts';

/** A rule. It names the other side by exactly one of `prefixes`, `securityGroup`, `self` and `vmSelector`. */
export interface SecurityRule extends Omit<SecurityGroupRules, 'securityGroup' | 'selfAttribute'> {
  /** The other side: interfaces with this security group. */
  readonly securityGroup?: Reference;
  /** The other side, if true: the other interfaces with the same security group. */
  readonly self?: boolean | IResolvable;
}

/** All arguments of a `ucloud_security_group`. */
export interface SecurityGroupConfig extends Omit<ResourceConfig, 'name' | 'rules' | 'count' | 'forEach'> {
  /**
   * The name of the group: an RFC 1123 label.
   * @default the id of the construct
   */
  readonly name?: string;
  /**
   * The allowed connections.
   * @default none: connections to the VMs are refused
   */
  readonly rules?: readonly SecurityRule[];
}

/**
 * Rules for the connections of interfaces.
 *
 * ```ts
 * const web = new SecurityGroup(this, 'web', {
 *   vmSelector: 'tier=web',
 *   rules: [{ direction: 'ingress', protocol: 'tcp', ports: ['443'], prefixes: ['::/0'] }],
 * });
 * new SecurityGroup(this, 'db', {
 *   vmSelector: 'tier=db',
 *   rules: [{ direction: 'ingress', protocol: 'tcp', ports: ['5432'], securityGroup: web }],
 * });
 * ```
 */
export class SecurityGroup extends Construct {
  /** The resource of the group. */
  readonly group: SecurityGroupResource;

  /** @throws Error that names the construct and the invalid option */
  constructor(scope: Construct, id: string, config: SecurityGroupConfig = {}) {
    super(scope, id);
    const { rules, ...rest } = config;
    this.group = new SecurityGroupResource(this, 'Default', {
      ...rest,
      name: validateName(this, config.name ?? id),
      ...(rules && { rules: rules.map((rule, index) => this.#bindingOf(rule, index)) }),
    });
  }

  #bindingOf({ securityGroup, self, ...rule }: SecurityRule, index: number): SecurityGroupRules {
    const named = [rule.prefixes, securityGroup, self, rule.vmSelector].filter((each) => each !== undefined);
    if (named.length !== 1) {
      fail(this, `rule ${index} must have exactly one of prefixes, securityGroup, self and vmSelector`);
    }
    return {
      ...rule,
      ...(securityGroup !== undefined && { securityGroup: idOf(securityGroup) }),
      ...(self !== undefined && { selfAttribute: self }),
    };
  }

  /** The id of the group. */
  get id(): string {
    return this.group.id;
  }

  /** The address of the group in Terraform, so that `dependsOn` accepts the construct. */
  get fqn(): string {
    return this.group.fqn;
  }
}
