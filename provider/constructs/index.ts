/**
 * The exports for CDKTF apps: the constructs, the generated class of each resource, data source and ephemeral resource,
 * and the functions of the provider.
 */

export {
  EphemeralUcloudToken,
  type EphemeralUcloudTokenConfig,
} from './bindings/ephemeral-ucloud-token/index.ts';
export * as bindings from './bindings/index.ts';
export { functionsOf } from './bindings/provider-functions/index.ts';
export type { VmDependenciesConfig } from './construct-support.ts';
export { Network, type NetworkConfig, type NetworkPlace } from './network.ts';
export {
  PrefixPlan,
  type PrefixPlanConfig,
  type PrefixPlanSpace,
  type Space,
  type Subnet,
  type SubnetConfig,
} from './prefix-plan.ts';
export { UcloudProvider, type UcloudProviderConfig } from './provider.ts';
export type { Reference } from './reference.ts';
export { SecurityGroup, type SecurityGroupConfig, type SecurityRule } from './security-group.ts';
export { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';
export {
  VmGroup,
  type VmGroupConfig,
  type VmGroupMember,
  type VmGroupMembers,
  type VmGroupSpread,
} from './vm-group.ts';
export { type DataDisk, Volume, type VolumeConfig } from './volume.ts';
