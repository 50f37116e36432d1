/**
 * Each bench runs with little work. The test does not check the figures, because they need an idle machine. The bench that
 * boots two guests of its own belongs to `npm run test:guests`.
 */
// Boots guests: each takes a core without hardware virtualisation.

import { execFile } from 'node:child_process';
import { globSync } from 'node:fs';
import { basename } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { needsEtcd } from '../support/etcd.ts';
import { noLab } from '../support/lab-cloud.ts';
import { noQemu } from '../support/qemu.ts';
import { terraformMissing } from '../support/terraform.ts';

const terraform = terraformMissing() ?? false;
const qemu = await noQemu();
interface Bench {
  readonly args: readonly string[];
  readonly skip?: string | false;
  /** Only with UCLOUD_GUESTS=all. */
  readonly long?: boolean;
}
const benches: Readonly<Record<string, Bench>> = {
  agents: {
    args: ['--agents', '6', '--vms', '24,60', '--processes', '2', '--placements', '5', '--spread', '3'],
    skip: needsEtcd().skip ?? false,
  },
  api: { args: ['--creates', '20', '--reads', '20', '--rounds', '1', '--listed', '200'] },
  'guest-io': { args: ['--mebibytes', '16', '--seconds', '1', '--rounds', '1'], skip: qemu },
  'hostile-tenant': { args: ['--requests', '10', '--unread', '2', '--megabytes', '1', '--seconds', '20'] },
  network: { args: ['--rounds', '1', '--pings', '20', '--mebibytes', '1', '--commits', '2'], skip: noLab() || qemu },
  offloads: { args: ['--megabytes', '2', '--rounds', '1'], skip: qemu, long: true },
  ordering: { args: ['--creates', '20', '--rounds', '1', '--vms', '100', '--intervals', '10', '--accounts', '2'] },
  provider: { args: ['--vms', '1', '--starts', '1', '--rounds', '1'], skip: terraform },
  'provider-scale': { args: ['--vms', '4', '--parallelism', '4'], skip: terraform },
  scheduler: { args: ['--vms', '20', '--hosts', '5'] },
  storage: { args: ['--mebibytes', '4', '--disks', '2', '--volumes', '200', '--rounds', '1'], skip: qemu },
  store: { args: ['0.05'] },
};
/** They take minutes on a busy machine. Tests of the same steps run with each change: test/host/ceph.test.ts. */
const onlyByHand = ['ceph'];

t.test('a bench for each promise that is measured', async (t) => {
  const files = globSync('bench/*.ts').map((file) => basename(file, '.ts'));
  t.strictSame(files.filter((name) => name !== 'run').sort(), [...Object.keys(benches), ...onlyByHand].sort());
});

for (const [name, { args, skip, long = false }] of Object.entries(benches)) {
  if (long && process.env.UCLOUD_GUESTS !== 'all') continue;
  t.test(`bench/${name}`, { skip: skip ?? false }, async (t) => {
    const run = promisify(execFile)(process.execPath, [`bench/${name}.ts`, ...args], {
      timeout: 240_000,
      maxBuffer: 16 * 1024 * 1024,
    });
    const { stdout } = await run.catch((error: Error & { stdout?: string; stderr?: string }) => {
      throw new Error(`it failed:\n${error.stdout?.slice(-4000)}\n${error.stderr?.slice(-4000)}`, { cause: error });
    });
    t.match(stdout, /^\|(-+\|)+$/m, 'it prints its table');
    t.notMatch(stdout, /NaN|undefined/);
  });
}
