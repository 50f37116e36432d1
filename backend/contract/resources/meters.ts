/** The meters: the quantities of objects that prices may charge. */
import { Type } from '@sinclair/typebox';
import { Enum, Reference } from '../fields.ts';

const counted = (unit: string, description: string) => ({ unit, bytes: false, description }) as const;
/** Quantities in bytes. Prices hold for one GiB. */
const sized = (description: string) => ({ unit: 'GiB', bytes: true, description }) as const;

/** All meters, with the unit of their prices. */
export const meterTable = {
  vm: counted('VM', 'VMs, also stopped ones.'),
  vm_cpu: counted('CPU', 'Virtual processors of VMs, also of stopped ones.'),
  vm_memory: sized('Memory of VMs, also of stopped ones.'),
  vm_disk: sized('Disks of VMs without a root volume.'),
  running_vm: counted('VM', 'VMs whose declared power state is `running`.'),
  running_cpu: counted('CPU', 'Virtual processors of these VMs.'),
  running_memory: sized('Memory of these VMs.'),
  volume: sized('Declared sizes of volumes.'),
  snapshot: sized('Disks of snapshots.'),
  prefix: counted('prefix', 'Prefixes.'),
  image: sized('Sizes of images.'),
  booked: counted('unit', 'Units of a product that an operator books for a project, such as an hour of work.'),
} as const;

/** A meter. */
export type Meter = keyof typeof meterTable;
export const meters = Object.keys(meterTable) as [Meter, ...Meter[]];

/** The meters of VMs. A product of one of them can include quantities of others. */
export const includedMeters = [
  'vm',
  'vm_cpu',
  'vm_memory',
  'vm_disk',
  'running_vm',
  'running_cpu',
  'running_memory',
] as const satisfies readonly Meter[];
export type IncludedMeter = (typeof includedMeters)[number];

/** The fields that select a part of a meter. */
export const meterFields = {
  meter: Enum(meters, {
    description: `Quantity that the product charges. ${meters.map((meter) => `\`${meter}\`: ${meterTable[meter].description}`).join(' ')}`,
  }),
  pool: Type.Optional(
    Reference('storage_pool', {
      description:
        'Storage pool of the volumes or snapshots, with the meters `volume` and `snapshot`. A product of a pool precedes one without. Default: all pools.',
    }),
  ),
  length: Type.Optional(
    Type.Integer({
      minimum: 16,
      maximum: 64,
      description:
        'Length of the prefixes, with the meter `prefix`. A product of a length precedes one without. Default: all lengths.',
    }),
  ),
};

/** A part of a meter: the meter, with the pool, the length or the booked product that it may have. */
export interface MeterPart {
  readonly meter: Meter;
  readonly pool?: string | undefined;
  readonly length?: number | undefined;
  /** The booked product, with the meter `booked`. */
  readonly product?: string | undefined;
}
