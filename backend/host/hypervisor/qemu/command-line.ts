/**
 * The command line of a VM's QEMU. Pure.
 *
 * The process may open nothing on the host but what is given to it: disk, image, sockets and taps come as open
 * descriptors. It has a user id of its own, no capabilities, and QEMU's seccomp sandbox.
 */
import { createHash } from 'node:crypto';
import type { Id } from '../../../contract/fields.ts';
import { interfaceAlias } from '../../system/instance.ts';
import type { InterfaceSpec } from '../specs.ts';
import { firstTapDescriptor } from './taps.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface QemuOptions {
  readonly vm: Id<'vm'>;
  readonly accelerator: Accelerator;
  readonly cpus: number;
  /** Bytes, a multiple of 1 MiB. */
  readonly memory: number;
  readonly interfaces: readonly InterfaceSpec[];
  /** Of the host. */
  readonly instance: string;
}

/** Descriptors that the process is started with. */
export const diskDescriptor = 3;
export const imageDescriptor = 4;
export const qmpDescriptor = 5;
export const serialDescriptor = 6;

/** Runs a program as the user, without any privilege and without a way to get one. */
export const unprivileged = (uid: number, groups: readonly number[], program: readonly string[]): string[] => [
  'setpriv',
  `--reuid=${uid}`,
  `--regid=${uid}`,
  groups.length > 0 ? `--groups=${groups.join(',')}` : '--clear-groups',
  '--no-new-privs',
  '--inh-caps=-all',
  '--bounding-set=-all',
  ...program,
];

/**
 * Bounds on the files that a process writes, its disk and its messages: without them, one that a guest has taken over
 * fills the host's disk through the descriptors that it has. qcow2 needs some 0.02 % beside the content of a disk.
 */
export const fileLimits = (diskSize: number): string[] => [
  'prlimit',
  '--core=0',
  `--fsize=${Math.ceil(diskSize * 1.01) + 64 * 1024 ** 2}`,
];

export const sandbox = ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'];

/** The same for each start of the VM: guests derive their machine-id from it (RFC 9562, version 8). */
export function uuidOf(vm: Id<'vm'>): string {
  const digest = createHash('sha256').update(vm).digest().subarray(0, 16);
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x80;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  return digest.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Machine and accelerator, the same for VMs and for the probe. TCG's translation cache is 1 GiB if not limited. */
export const machine = (accelerator: Accelerator): string[] => [
  ...['-nodefaults', '-no-user-config', '-display', 'none'],
  ...['-machine', 'q35,usb=off,vmport=off,smm=off,hpet=off,dump-guest-core=off'],
  ...(accelerator === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,tb-size=64', '-cpu', 'max']),
];

const blockdev = (node: object): string[] => ['-blockdev', JSON.stringify(node)];
const file = (descriptorSet: number): object => ({
  driver: 'file',
  filename: `/dev/fdset/${descriptorSet}`,
  // Two processes must never write one disk: the second fails to get the lock and ends.
  locking: 'on',
});

function networkInterface({ network, mac }: InterfaceSpec, index: number): string[] {
  return [
    ...['-netdev', `tap,id=net${index},fd=${firstTapDescriptor + index},vhost=off`],
    ...['-device', `virtio-net-pci,netdev=net${index},mac=${mac},host_mtu=${network.mtu},romfile=`],
  ];
}

/**
 * QEMU starts stopped (`-S`): the guest executes only when everything around it is in place.
 *
 * `werror=stop`: when the host's disk is full the guest pauses instead of losing writes.
 */
export const qemuArguments = (options: QemuOptions): string[] => [
  'qemu-system-x86_64',
  ...[
    '-name',
    `guest=${interfaceAlias(options.instance, options.vm)},debug-threads=on`,
    '-uuid',
    uuidOf(options.vm),
    '-S',
  ],
  ...machine(options.accelerator),
  ...['-smp', `${options.cpus}`, '-m', `${Math.floor(options.memory / 1024 ** 2)}M`, '-rtc', 'base=utc'],
  ...['-smbios', `type=1,manufacturer=ucloud,product=ucloud,serial=${options.vm}`],
  ...['-chardev', `socket,id=qmp,fd=${qmpDescriptor},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
  ...['-chardev', `socket,id=serial,fd=${serialDescriptor},server=on,wait=off`, '-serial', 'chardev:serial'],
  ...['-add-fd', `fd=${diskDescriptor},set=1`, '-add-fd', `fd=${imageDescriptor},set=2`],
  // Overrides what the disk's own header says of its backing file: the guest's side may have written that.
  ...blockdev({ driver: 'qcow2', 'node-name': 'image', 'read-only': true, file: file(2), backing: null }),
  ...blockdev({
    driver: 'qcow2',
    'node-name': 'disk',
    discard: 'unmap',
    'detect-zeroes': 'unmap',
    file: file(1),
    backing: 'image',
  }),
  ...['-device', `virtio-blk-pci,drive=disk,serial=${options.vm},bootindex=0,werror=stop,rerror=stop`],
  ...options.interfaces.flatMap(networkInterface),
  ...['-object', 'rng-builtin,id=rng', '-device', 'virtio-rng-pci,rng=rng', '-device', 'pvpanic-pci'],
  ...sandbox,
];
