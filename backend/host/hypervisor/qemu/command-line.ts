/**
 * The command line of a VM's QEMU. Pure.
 *
 * The process gets disk, image, sockets and taps as open descriptors, and may open no other file of the host. It has a
 * user id of its own, no capabilities, and QEMU's seccomp sandbox.
 */
import { createHash } from 'node:crypto';
import type { Id } from '../../../contract/fields.ts';
import type { Firmware } from '../../../contract/resources/images.ts';
import { maxInterfaces } from '../../../contract/resources/vm-interfaces.ts';
import { maxVolumes } from '../../../contract/resources/volume-attachments.ts';
import { rootSlot } from '../../../model/vm/volumes.ts';
import { interfaceAlias } from '../../system/instance.ts';
import type { InterfaceSpec } from '../specs.ts';
import { netdevOf, nicOf, nicPortOf } from './guest-interfaces.ts';
import { firstTapDescriptor } from './taps.ts';
import { portOf } from './volumes.ts';

/** The way in which QEMU runs the guest's code: in hardware (`kvm`) or emulated (`tcg`). */
export type Accelerator = 'kvm' | 'tcg';

/** The parts of a VM that its command line contains. */
export interface CommandLineOptions {
  readonly vm: Id<'vm'>;
  readonly accelerator: Accelerator;
  readonly cpus: number;
  /** In bytes, a multiple of 1 MiB. */
  readonly memory: number;
  readonly firmware: Firmware;
  /** The VM has no disk of its own: it gets its root volume before it executes. Default: false. */
  readonly rootVolume?: boolean;
  readonly interfaces: readonly InterfaceSpec[];
  /** The instance name of the host. */
  readonly instance: string;
}

/** The descriptors that the process starts with. The taps follow them. */
export const diskDescriptor = 3;
export const imageDescriptor = 4;
export const qmpDescriptor = 5;
export const serialDescriptor = 6;
export const seedDescriptor = 7;
/** For UEFI; other VMs have /dev/null there. */
export const firmwareDescriptor = 8;
export const variablesDescriptor = 9;
/** The monitor that takes the files of volumes. */
export const filesDescriptor = 10;
/** The socket of the guest agent. */
export const agentDescriptor = 11;

/**
 * Returns the command line that runs a program as the user, without any privilege and without a way to get one.
 * @param more further options of setpriv
 */
export const unprivileged = (
  uid: number,
  groups: readonly number[],
  program: readonly string[],
  more: readonly string[] = [],
): string[] => [
  'setpriv',
  ...more,
  `--reuid=${uid}`,
  `--regid=${uid}`,
  groups.length > 0 ? `--groups=${groups.join(',')}` : '--clear-groups',
  '--no-new-privs',
  '--inh-caps=-all',
  '--bounding-set=-all',
  ...program,
];

/**
 * Returns a command that limits the files of a process: its disk and its messages. Without the limit, a process that
 * its guest has taken over could fill the host's disk through its descriptors. The format qcow2 needs about 0.02 %
 * more than the content of the disk.
 *
 * @param size the size of the largest disk or volume, in bytes
 */
export const fileLimits = (size: number): string[] => ['prlimit', '--core=0', `--fsize=${fileLimit(size)}`];

/** Returns the limit for a disk or volume of this size. */
export const fileLimit = (size: number): number => Math.ceil(size * 1.01) + 64 * 1024 ** 2;

/** The options that turn on QEMU's seccomp sandbox. */
export const sandbox = ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'];

/**
 * Returns the UUID of the VM (RFC 9562, version 8). It is the same for each start of the VM, because guests derive
 * their machine-id from it.
 */
export function uuidOf(vm: Id<'vm'>): string {
  const digest = createHash('sha256').update(vm).digest().subarray(0, 16);
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x80;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  return digest.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/**
 * Returns the options for machine and accelerator, which VMs and the probe share. Without a limit, the translation
 * cache of TCG takes 1 GiB.
 */
export const machine = (accelerator: Accelerator): string[] => [
  ...['-nodefaults', '-no-user-config', '-display', 'none'],
  ...['-machine', 'q35,usb=off,vmport=off,smm=off,hpet=off,dump-guest-core=off'],
  ...(accelerator === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,tb-size=64', '-cpu', 'max']),
];

const blockdev = (node: object): string[] => ['-blockdev', JSON.stringify(node)];
const file = (descriptorSet: number): object => ({
  driver: 'file',
  filename: `/dev/fdset/${descriptorSet}`,
  // Two processes must never write one disk. The second process does not get the lock and ends.
  locking: 'on',
});

/**
 * Returns the slots for interfaces: root ports of PCI Express, eight functions of one device. A guest numbers the interfaces
 * in the order of their slots. The address is fixed and higher than those of all other devices but the slots for volumes.
 */
const nicPorts = (): string[] =>
  Array.from({ length: maxInterfaces }, (_, slot) => {
    const address = `addr=0x12.${slot}${slot === 0 ? ',multifunction=on' : ''}`;
    return ['-device', `pcie-root-port,id=${nicPortOf(slot)},bus=pcie.0,chassis=${firstNicChassis + slot},${address}`];
  }).flat();

/** The number of the first chassis of a slot for interfaces. Those of volumes have smaller numbers. */
const firstNicChassis = 32;

function networkInterface({ network, mac }: InterfaceSpec, slot: number): string[] {
  const [netdev, nic, port] = [netdevOf(slot), nicOf(slot), nicPortOf(slot)];
  return [
    ...['-netdev', `tap,id=${netdev},fd=${firstTapDescriptor + slot},vhost=off`],
    ...['-device', `virtio-net-pci,id=${nic},bus=${port},netdev=${netdev},mac=${mac},host_mtu=${network.mtu},romfile=`],
  ];
}

/** Returns the arguments for UEFI. The firmware is in flash memory: read-only code, and variables that the guest writes. */
const uefi = (): string[] => [
  ...['-add-fd', `fd=${firmwareDescriptor},set=4`, '-add-fd', `fd=${variablesDescriptor},set=5`],
  ...blockdev({ driver: 'raw', 'node-name': 'firmware', 'read-only': true, file: { ...file(4), 'read-only': true } }),
  ...blockdev({ driver: 'raw', 'node-name': 'variables', file: file(5) }),
  ...['-machine', 'pflash0=firmware,pflash1=variables'],
];

/** Returns the disk of the VM, an overlay on the image. */
const ownDisk = (vm: Id<'vm'>): string[] => [
  ...['-add-fd', `fd=${diskDescriptor},set=1`, '-add-fd', `fd=${imageDescriptor},set=2`],
  // This option overrides the backing file in the disk's header, because a hostile QEMU may have changed that header.
  ...blockdev({ driver: 'qcow2', 'node-name': 'image', 'read-only': true, file: file(2), backing: null }),
  ...blockdev({
    driver: 'qcow2',
    'node-name': 'disk',
    discard: 'unmap',
    'detect-zeroes': 'unmap',
    file: file(1),
    backing: 'image',
  }),
  ...['-device', `virtio-blk-pci,drive=disk,serial=${vm},bootindex=0,werror=stop,rerror=stop`],
];

/** Returns the slot of the root volume, in the place of a disk, so that all other devices have the same addresses. */
const rootSlotPort = (): string[] => ['-device', `pcie-root-port,id=${portOf(rootSlot)},chassis=${rootSlot + 1}`];

/** The name of the guest agent's socket in QEMU. */
export const agentChardev = 'agent';

/** Returns the serial port that the QEMU guest agent opens, by its well-known name. */
const guestAgentPort = (): string[] => [
  ...['-chardev', `socket,id=${agentChardev},fd=${agentDescriptor},server=on,wait=off`],
  ...['-device', 'virtio-serial-pci,id=ports,max_ports=2'],
  ...['-device', `virtserialport,bus=ports.0,chardev=${agentChardev},name=org.qemu.guest_agent.0`],
];

/**
 * Returns the slots for volumes: root ports of PCI Express, eight functions in each of two devices. Their addresses are
 * fixed and higher than those of all other devices, so that a VM with and without them has the same hardware otherwise.
 */
const volumePorts = (): string[] =>
  Array.from({ length: maxVolumes }, (_, slot) => {
    const address = `addr=0x${(0x10 + (slot >> 3)).toString(16)}.${slot & 7}${(slot & 7) === 0 ? ',multifunction=on' : ''}`;
    return ['-device', `pcie-root-port,id=${portOf(slot)},bus=pcie.0,chassis=${slot + 1},${address}`];
  }).flat();

/**
 * Returns the command line of QEMU. QEMU starts with the guest stopped (`-S`), so the guest executes only after its
 * taps and filters are in place. With `werror=stop`, the guest pauses on a full disk of the host and loses no write.
 */
export const qemuArguments = (options: CommandLineOptions): string[] => [
  'qemu-system-x86_64',
  ...[
    '-name',
    `guest=${interfaceAlias(options.instance, options.vm)},debug-threads=on`,
    '-uuid',
    uuidOf(options.vm),
    '-S',
  ],
  ...machine(options.accelerator),
  ...(options.firmware === 'uefi' ? uefi() : []),
  ...['-smp', `${options.cpus}`, '-m', `${Math.floor(options.memory / 1024 ** 2)}M`, '-rtc', 'base=utc'],
  ...['-smbios', `type=1,manufacturer=ucloud,product=ucloud,serial=${options.vm}`],
  ...['-chardev', `socket,id=qmp,fd=${qmpDescriptor},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
  ...['-chardev', `socket,id=files,fd=${filesDescriptor},server=on,wait=off`, '-mon', 'chardev=files,mode=control'],
  ...['-chardev', `socket,id=serial,fd=${serialDescriptor},server=on,wait=off`, '-serial', 'chardev:serial'],
  ...['-add-fd', `fd=${seedDescriptor},set=3`],
  ...(options.rootVolume ? rootSlotPort() : ownDisk(options.vm)),
  ...nicPorts(),
  ...options.interfaces.flatMap(networkInterface),
  ...['-object', 'rng-builtin,id=rng', '-device', 'virtio-rng-pci,rng=rng', '-device', 'pvpanic-pci'],
  // The last devices, so that the others keep their addresses on the PCI bus.
  ...blockdev({ driver: 'raw', 'node-name': 'seed', 'read-only': true, file: { ...file(3), 'read-only': true } }),
  ...(options.rootVolume ? ['-device', 'pcie-root-port,id=seed-port,chassis=64'] : []),
  // Linux numbers the disks behind ports after all others. So the root volume is /dev/vda, like a disk.
  ...['-device', `virtio-blk-pci,drive=seed,serial=cidata${options.rootVolume ? ',bus=seed-port' : ''}`],
  ...guestAgentPort(),
  ...volumePorts(),
  ...sandbox,
];
