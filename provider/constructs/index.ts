/**
 * What a CDKTF app imports: the higher constructs, the classes generated for each resource, data source and
 * ephemeral resource, and the functions of the provider.
 */

export {
  EphemeralUcloudToken,
  type EphemeralUcloudTokenConfig,
} from './bindings/ephemeral-ucloud-token/index.ts';
export * as bindings from './bindings/index.ts';
export { UcloudProvider } from './bindings/provider/index.ts';
export { functionsOf } from './bindings/provider-functions/index.ts';
export { Network, type NetworkConfig } from './network.ts';
export { PrefixPlan, type PrefixPlanConfig, type Space, type Subnet, type SubnetConfig } from './prefix-plan.ts';
export type { Reference } from './reference.ts';
export { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';
export { VmGroup, type VmGroupConfig, type VmGroupMember } from './vm-group.ts';
