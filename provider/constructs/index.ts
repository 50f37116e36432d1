/** What a CDKTF app imports: the higher constructs, and the classes generated for each resource and data source. */
export * as bindings from './bindings/index.ts';
export { UcloudProvider } from './bindings/provider/index.ts';
export { Network, type NetworkConfig } from './network.ts';
export { PrefixPlan, type PrefixPlanConfig, type Space, type Subnet, type SubnetConfig } from './prefix-plan.ts';
export type { Reference } from './reference.ts';
export { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';
export { VmGroup, type VmGroupConfig, type VmGroupMember } from './vm-group.ts';
