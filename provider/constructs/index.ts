/** What a CDKTF app imports: the higher constructs, and the classes generated for each resource and data source. */
export * as bindings from './bindings/index.ts';
export { UcloudProvider } from './bindings/provider/index.ts';
export { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';
