/** A VM with a plain QEMU command line and without an agent, for tests of images. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { until } from './eventually.ts';
import type { NetNamespace } from './net-namespace.ts';

export interface GuestOptions {
  /** The directory for sockets and logs. */
  readonly directory: string;
  /** The disk, a qcow2. The VM writes to it. */
  readonly disk: string;
  /** The tap in the namespace. */
  readonly tap: string;
  readonly mac: string;
}

export class QemuGuest {
  readonly #child: ChildProcess;
  readonly #options: GuestOptions;
  readonly exited: Promise<unknown>;

  constructor(child: ChildProcess, options: GuestOptions) {
    this.#child = child;
    this.#options = options;
    this.exited = once(child, 'exit');
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The output of the guest on its serial console. */
  get console(): string {
    return readFileSync(join(this.#options.directory, 'serial.log'), 'latin1');
  }

  /** Runs a command of QMP. */
  async command(execute: string): Promise<void> {
    const path = join(this.#options.directory, 'qmp');
    const socket = await until('QMP', async () => {
      const attempt = createConnection({ path });
      return Promise.race([
        once(attempt, 'connect').then(() => attempt),
        once(attempt, 'error').then(() => undefined),
      ]).catch(() => undefined);
    });
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    await lines.next();
    for (const each of ['qmp_capabilities', execute]) {
      socket.write(`${JSON.stringify({ execute: each })}\n`);
      await lines.next();
    }
    socket.destroy();
  }

  /** Presses the power button, and returns the seconds until the VM is off. */
  async powerOff(): Promise<number> {
    const start = performance.now();
    await this.command('system_powerdown');
    await this.exited;
    return (performance.now() - start) / 1000;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Starts a VM. The test kills it at its end, if it still runs. */
export function qemuGuest(t: Test, namespace: NetNamespace, options: GuestOptions): QemuGuest {
  const { directory, disk, tap, mac } = options;
  rmSync(join(directory, 'serial.log'), { force: true });
  const child = namespace.spawn(
    'qemu-system-x86_64',
    [
      ...[
        '-nodefaults',
        '-no-user-config',
        '-display',
        'none',
        '-m',
        '256',
        '-machine',
        'q35,accel=tcg,usb=off,smm=off',
      ],
      ...['-object', 'rng-random,id=rng0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=rng0'],
      ...[
        '-blockdev',
        JSON.stringify({ driver: 'qcow2', 'node-name': 'disk', file: { driver: 'file', filename: disk } }),
      ],
      ...['-device', 'virtio-blk-pci,drive=disk', '-netdev', `tap,id=net0,ifname=${tap},script=no,downscript=no`],
      ...[
        '-device',
        `virtio-net-pci,netdev=net0,mac=${mac},romfile=`,
        '-serial',
        `file:${join(directory, 'serial.log')}`,
      ],
      ...[
        '-chardev',
        `socket,id=qmp,path=${join(directory, 'qmp')},server=on,wait=off`,
        '-mon',
        'chardev=qmp,mode=control',
      ],
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const guest = new QemuGuest(child, options);
  t.teardown(async () => {
    if (!guest.running) return;
    guest.kill();
    await guest.exited;
  });
  return guest;
}
