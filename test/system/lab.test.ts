/** A data centre in network namespaces: its page, bad input, and the end of a lab whose start was killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { birdDirectory } from '../../backend/host/system/instance.ts';
import { namespacesOf } from '../../backend/lab/namespaces.ts';
import { labId } from '../../backend/lab/plan.ts';
import { runUcloud, ucloudCommand } from '../support/cli.ts';
import { hasEtcd } from '../support/etcd.ts';
import { until } from '../support/eventually.ts';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { exemption } from '../support/pages.ts';
import { temporaryDirectory } from '../support/stores.ts';

const page = 'docs/lab.md';
const skip = noNamespaces('nft', 'openssl', 'sysctl', 'bird') || (hasEtcd ? false : 'etcd is not installed');

/** The directory of a lab, which the test removes at its end. */
function labDirectory(t: Test): string {
  const directory = join(temporaryDirectory(t), 'lab');
  t.teardown(() => runUcloud(['lab', 'down', '--data', directory], {}));
  return directory;
}

/** Returns the processes whose command line names the directory. */
const processesOf = (directory: string): string[] =>
  readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      return line.includes(directory) ? [line] : [];
    } catch {
      return [];
    }
  });

t.test('the page about the lab', { skip, timeout: 600_000 }, async (t) => {
  const directory = labDirectory(t);
  const home = temporaryDirectory(t);
  await runGuide(t, page, temporaryDirectory(t), {
    directory: home,
    environment: { ...readerEnvironment(home), UCLOUD_LAB: directory },
    exempt: (block) => exemption(page, block),
    // The command is installed. Without it, npx would look into the registry.
    adapt: (text) => text.replaceAll('npx ucloud', 'ucloud').replaceAll('/var/lib/ucloud-lab', directory),
  });
  t.notOk(existsSync(directory));
  t.strictSame(await namespacesOf(labId(directory)), []);
  t.strictSame(processesOf(directory), [], 'no process stays');
  t.notOk(existsSync(birdDirectory(`lab-${labId(directory)}`)), 'nor files of the spine');
});

t.test('a lab whose start was killed is removed, and a repeated removal does nothing', { skip }, async (t) => {
  const directory = labDirectory(t);
  const args = ['lab', 'up', '--hosts', '1', '--etcd', '1', '--hypervisor', 'simulated', '--data', directory];
  const up = spawn(ucloudCommand, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  for await (const text of up.stderr.setEncoding('utf8')) if (`${text}`.includes('starting the components')) break;
  up.kill('SIGKILL');
  if (up.signalCode === null) await once(up, 'exit');
  t.ok((await namespacesOf(labId(directory))).length > 0 && processesOf(directory).length > 0, 'it has left parts');
  const spine = birdDirectory(`lab-${labId(directory)}`);
  await until('the spine has started', () => existsSync(join(spine, 'bird.ctl')));
  const link = join(temporaryDirectory(t), 'link');
  symlinkSync(dirname(directory), link);
  // Another spelling of the directory is the same lab.
  const down = () => runUcloud(['lab', 'down', '--data', join(link, 'lab')], {});
  t.match(await down(), { code: 0, out: /the lab is gone/ });
  t.notOk(existsSync(directory));
  t.strictSame(await namespacesOf(labId(directory)), []);
  t.strictSame(processesOf(directory), []);
  t.notOk(existsSync(spine));
  t.match(await down(), { code: 0, out: /there is no lab in/ });
});

t.test('bad input is refused and changes nothing', { skip }, async (t) => {
  const directory = labDirectory(t);
  const refused = async (args: readonly string[], rule: RegExp, at = directory) =>
    t.match(await runUcloud(['lab', ...args, '--data', at], {}), { code: 1, err: rule }, args.join(' '));
  await refused(['up', '--hosts', '17'], /--hosts .* must be a whole number from 1 to 16/s);
  await refused(['up', '--hosts', '1e1'], /must be a whole number/);
  await refused(['up', '--etcd', '2'], /Allowed choices are 1, 3, 5/);
  await refused(['status'], /there is no lab in .*; start one with: ucloud lab up/);
  await refused(['kill', 'host-1'], /there is no lab/);
  await refused(['lose', 'host-1', '--percent', '100'], /must be a whole number from 1 to 99/);
  await refused(['kill', 'spine/etcd'], /there is no lab/);
  await refused(['partition', 'host-1', '--direction', 'up'], /Allowed choices are in, out, both/);
  const other = join(temporaryDirectory(t), 'other');
  mkdirSync(other);
  writeFileSync(join(other, 'letter'), 'mine');
  await refused(['up', '--hosts', '1'], /is not empty and has no lab/, other);
  t.match(await runUcloud(['lab', 'down', '--data', other], {}), { code: 0, out: /there is no lab/ });
  t.equal(readFileSync(join(other, 'letter'), 'utf8'), 'mine', 'other files stay');
  for (const record of ['{}', 'broken', JSON.stringify({ kind: 'ucloud-lab', id: '000000', hosts: 1 })]) {
    writeFileSync(join(other, 'lab.json'), record);
    for (const command of ['up', 'down'])
      await refused([command], /is no record of a lab|was started at another path/, other);
  }
  t.strictSame(readdirSync(other).toSorted(), ['lab.json', 'letter'], 'a record of another program removes nothing');
  t.notOk(existsSync(directory));
});
