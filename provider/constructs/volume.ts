/** A volume, and the data disks of a VM. */
import { Construct } from 'constructs';
import { type VolumeConfig as ResourceConfig, Volume as VolumeResource } from './bindings/volume/index.ts';
import { validateName } from './checks.ts';

/** All arguments of a `ucloud_volume`. */
export interface VolumeConfig extends Omit<ResourceConfig, 'name' | 'count' | 'forEach'> {
  /**
   * The name of the volume: an RFC 1123 label.
   * @default the id of the construct
   */
  readonly name?: string;
}

/** The arguments of a data disk. Its name is that of the VM with the name of the disk. */
export type DataDisk = Omit<VolumeConfig, 'name' | 'project' | 'provider'>;

/**
 * A disk with data that outlives VMs. Terraform destroys it only when it leaves the configuration.
 *
 * ```ts
 * const data = new Volume(this, 'data', { size: '20GiB', deleteProtection: true });
 * new VirtualMachine(this, 'db', { image: 'demo', volumes: [data.id] });
 * ```
 */
export class Volume extends Construct {
  /** The volume resource. */
  readonly volume: VolumeResource;

  /** @throws Error that names the construct and the invalid option */
  constructor(scope: Construct, id: string, config: VolumeConfig) {
    super(scope, id);
    this.volume = new VolumeResource(this, 'Default', { ...config, name: validateName(this, config.name ?? id) });
  }

  /** The id of the volume. */
  get id(): string {
    return this.volume.id;
  }

  /** The path of the device in Linux guests. */
  get device(): string {
    return this.volume.device;
  }

  /** The address of the volume in Terraform, so that `dependsOn` accepts the construct. */
  get fqn(): string {
    return this.volume.fqn;
  }
}
