/**
 * Kills every process with SIGKILL while VMs are created. The result must be as many VMs, with different addresses, and
 * nothing may remain after their deletion.
 *
 * `npm test` creates three VMs, `npm run chaos` ten.
 */
// Boots guests: each takes a core without hardware virtualisation.

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';
import type { TenVms } from '../support/ten-vms.ts';

const count = process.env.UCLOUD_CHAOS === 'all' ? 10 : 3;

const exec = promisify(execFile);

async function tenVms(
  t: Test,
  command: readonly string[],
  data: string,
  image: string,
  hypervisor: string,
): Promise<TenVms> {
  const story = ['test/support/ten-vms.ts', data, image, hypervisor, String(count)];
  const [program = '', ...args] = [...command, process.execPath, ...story];
  try {
    return JSON.parse((await exec(program, args, { maxBuffer: 16 * 1024 * 1024 })).stdout) as TenVms;
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string; message: string };
    t.fail('the story ended early', { message, stderr: stderr.slice(-8000) });
    throw error;
  }
}

function checkResult(t: Test, seen: TenVms): void {
  t.strictSame(
    seen.names,
    Array.from({ length: count }, (_, i) => `vm-${i}`),
    'each VM once',
  );
  t.equal(new Set(seen.addresses).size, count, 'as many addresses');
  t.equal(new Set(seen.macs).size, count, 'as many MAC addresses');
  t.equal(seen.running, count, 'all run');
  t.equal(seen.leftInApi, 0, 'nothing left in the API');
  t.strictSame(seen.left, [], 'nothing left on the machine');
}

t.test('simulated VMs', async (t) => {
  const directory = temporaryDirectory(t);
  const image = join(directory, 'empty.raw');
  // A raw disk that contains only the signature of a boot sector.
  writeFileSync(image, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
  checkResult(t, await tenVms(t, [], join(directory, 'data'), image, 'simulated'));
});

t.test('real VMs', { skip: await noQemu() }, async (t) => {
  const namespace = netNamespace(t, 'ten');
  const directory = temporaryDirectory(t);
  const image = await demoImage(directory);
  const seen = await tenVms(t, ['ip', 'netns', 'exec', namespace.name], join(directory, 'data'), image, 'qemu');
  checkResult(t, seen);
  t.equal(seen.processes.length, count, 'as many processes');
  t.equal(new Set(seen.processes).size, count, 'one a VM');
});
