/**
 * Tests whether guests run under KVM on this machine. The existence of /dev/kvm is no proof: with incomplete nested
 * virtualization, guests abort or hang in their firmware. The probe therefore boots a guest of one sector, with the
 * machine, firmware and privileges of a VM. The guest ends QEMU with a known exit code. The result is stored until the
 * next boot of the host.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { environment } from '../../system/command.ts';
import { isMissing, readIfThere, writeAtomically } from '../../system/files.ts';
import { type Accelerator, machine, sandbox, unprivileged } from './command-line.ts';

/** The result of a probe. */
export interface ProbeResult {
  readonly works: boolean;
  /** The reason of a failure, for the operator; empty after a success. */
  readonly reason: string;
}

/**
 * Returns a disk that the firmware boots, with `code` in its first sector. SeaBIOS refuses disks below one cylinder.
 */
export function bootDisk(code: readonly number[]): Buffer {
  const disk = Buffer.alloc(1024 ** 2);
  disk.set(code);
  disk.writeUInt16LE(0xaa55, 510);
  return disk;
}

/** `mov al, 16; out 0xf4, al; hlt`. QEMU's isa-debug-exit then ends the process with exit code (16 << 1) | 1. */
const exitProgram = [0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];
const expectedExitCode = 33;

/** Returns the group that may use /dev/kvm, if there is one. VMs under KVM are members of it. */
export async function kvmGroups(): Promise<number[]> {
  try {
    const { gid, mode } = await stat('/dev/kvm');
    return gid !== 0 && (mode & 0o060) === 0o060 ? [gid] : [];
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Boots the probe's guest under the accelerator. `directory` contains the guest's disk meanwhile. */
export async function bootProbe(
  accelerator: Accelerator,
  directory: string,
  uid: number,
  timeoutMs: number,
): Promise<ProbeResult> {
  const disk = join(directory, 'kvm-probe.raw');
  await writeFile(disk, bootDisk(exitProgram), { mode: 0o600 });
  const file = await open(disk, 'r');
  try {
    const [program = '', ...args] = unprivileged(uid, accelerator === 'kvm' ? await kvmGroups() : [], [
      'qemu-system-x86_64',
      ...machine(accelerator),
      ...['-m', '32M', '-add-fd', 'fd=3,set=1'],
      '-blockdev',
      JSON.stringify({
        driver: 'raw',
        'node-name': 'disk',
        'read-only': true,
        file: { driver: 'file', filename: '/dev/fdset/1' },
      }),
      ...['-device', 'virtio-blk-pci,drive=disk', '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04'],
      ...sandbox,
    ]);
    const child = spawn(program, args, {
      cwd: '/',
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe', file.fd],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-1000);
    });
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    if (code === expectedExitCode) return { works: true, reason: '' };
    const how =
      signal === 'SIGKILL' ? `the guest did not run within ${timeoutMs} ms` : `QEMU ended (${code ?? signal})`;
    return { works: false, reason: [how, stderr.trim()].filter(Boolean).join(': ') };
  } finally {
    await file.close();
    await rm(disk, { force: true });
  }
}

/**
 * Returns the result of the probe of KVM. The probe runs once for each boot of the host; `directory` keeps the result.
 */
export async function probeKvm(directory: string, uid: number): Promise<ProbeResult> {
  const cache = join(directory, 'kvm-probe.json');
  const boot = (await readIfThere('/proc/sys/kernel/random/boot_id'))?.trim();
  const kept = await readIfThere(cache);
  const known = kept === undefined ? undefined : (JSON.parse(kept) as ProbeResult & { boot?: string });
  if (known && known.boot === boot) return known;
  const device = await stat('/dev/kvm').catch((error: unknown) => {
    if (isMissing(error)) return undefined;
    throw error;
  });
  const result = device
    ? await bootProbe('kvm', directory, uid, 5_000)
    : { works: false, reason: 'there is no /dev/kvm' };
  await writeAtomically(cache, JSON.stringify({ boot, ...result }));
  return result;
}
