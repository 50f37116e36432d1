/**
 * What a host agent needs of a hypervisor. Two drivers: `qemu/` runs VMs, `simulated.ts` pretends. The agent decides
 * what should be (agent.ts), a driver makes it so.
 *
 * Every method may be called again after a crash at any point of an earlier call and must then do what is left. The
 * agent never runs two calls for one VM at the same time; calls for different VMs run concurrently.
 */
import type { Id } from '../../contract/fields.ts';
import type { Resources } from '../../model/placement.ts';

export interface NetworkSpec {
  readonly id: Id<'network'>;
  readonly vni: number;
  /** The /64, RFC 5952. */
  readonly cidr: string;
  readonly mtu: number;
  readonly dns_servers: readonly string[];
}

export interface InterfaceSpec {
  readonly network: NetworkSpec;
  readonly mac: string;
  readonly address: string;
  /** Name of the tap that it was started with; else it follows from the MAC address. */
  readonly tap?: string;
}

export interface VmSpec {
  readonly id: Id<'vm'>;
  readonly name: string;
  /** Number of the placement that this host holds. */
  readonly fence: number;
  readonly generation: number;
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  /** Bytes. */
  readonly disk_size: number;
  readonly image: Id<'image'>;
  readonly interfaces: readonly InterfaceSpec[];
}

/** A VM of which this machine holds anything at all: a process, a disk, a tap, or remains of a half-done step. */
export interface ObservedVm {
  readonly id: Id<'vm'>;
  readonly running: boolean;
  /** Of the running process: what it was started with. */
  readonly fence?: number;
  readonly generation?: number;
  /** RFC 3339 UTC. */
  readonly started_at?: string;
}

/** The guest shut itself down, or its process ended in any other way. */
export type ExitCause = 'guest_shutdown' | 'crash';

export interface Hypervisor {
  readonly kind: 'qemu' | 'simulated';
  readonly accelerator: 'kvm' | 'tcg' | 'none';
  readonly architecture: 'x86_64' | 'aarch64';
  capacity(): Promise<Resources>;
  list(): Promise<readonly ObservedVm[]>;
  /** Whether the store of images here has this one. */
  hasImage(image: Id<'image'>): Promise<boolean>;
  /** Makes or grows the disk. Does not touch a running VM. */
  prepare(spec: VmSpec, signal: AbortSignal): Promise<void>;
  /** Networks, taps, filters, process: returns once the guest executes. Does nothing if it runs already. */
  start(spec: VmSpec, signal: AbortSignal): Promise<void>;
  /** Asks the guest to shut down; ends the process after `graceSeconds` (0: at once). Returns when it has ended and its taps and filters are gone. The disk stays. */
  stop(vm: Id<'vm'>, graceSeconds: number): Promise<void>;
  /** Ends the VM if it runs and removes everything of it, disk included. */
  destroy(vm: Id<'vm'>): Promise<void>;
  /** Makes bridges and router advertisements exactly those of these networks. Called when the set or a network changes. */
  setNetworks(networks: readonly NetworkSpec[]): Promise<void>;
  /** Calls back when a VM ended without having been asked to. Returns a function that ends this. */
  onExit(listener: (vm: Id<'vm'>, cause?: ExitCause) => void): () => void;
  /**
   * Only where no metadata server hears the guests (the simulated driver): calls back when a guest is ready, for
   * adopted VMs too. The agent then records it in the metadata server's stead. Returns a function that ends this.
   */
  onReady?(listener: (vm: Id<'vm'>, at: Date) => void): () => void;
  /** Removes everything that this driver has made on the machine, VMs included (`ucloud host clean`). Returns what it removed, for people. */
  clean(): Promise<readonly string[]>;
  /** Lets go of the machine. VMs go on running. */
  close(): Promise<void>;
}
