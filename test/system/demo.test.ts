/** The demo, like a new user runs it: with real VMs on the embedded store, and with simulated VMs on a real etcd. */
// Boots guests: each takes a core without hardware virtualisation.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { needsEtcd, startEtcd } from '../support/etcd.ts';
import { netNamespace, noNamespaces } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);

async function runDemo(
  t: Test,
  command: string,
  before: readonly string[],
  options: readonly string[] = [],
): Promise<string> {
  const all = [...before, 'scripts/demo.ts', '--once', '--data', `${temporaryDirectory(t)}/demo`, ...options];
  try {
    return (await exec(command, all, { maxBuffer: 16 * 1024 * 1024 })).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`the demo failed:\n${stdout}\n${stderr}`, { cause: error });
  }
}

t.test('two VMs answer ping and ssh, a second plan is empty, nothing is left', { skip: await noQemu() }, async (t) => {
  // The namespace has no network, so the packages for the demo's image must be on this machine.
  await demoImage(temporaryDirectory(t));
  const namespace = netNamespace(t, 'demo');
  const output = await runDemo(t, 'ip', ['netns', 'exec', namespace.name, process.execPath]);
  t.match(output, /hypervisor: qemu/);
  t.equal(output.match(/answers ping/g)?.length, 2, 'both answer ping');
  t.equal(output.match(/lets ucloud@\S+ in with the key; its host name is/g)?.length, 2, 'both let the user in');
  t.match(output, /All of it worked/);
});

t.test('the same declaration, on etcd and with simulated VMs', needsEtcd(), async (t) => {
  const etcd = await startEtcd(t);
  const output = await runDemo(
    t,
    process.execPath,
    [],
    ['--hypervisor', 'simulated', '--store', `etcd://${etcd.endpoint}`],
  );
  t.match(output, /hypervisor: simulated/);
  t.match(output, /2 VMs are up/);
  t.match(output, /All of it worked/);
});

const noLab = (await noQemu()) || noNamespaces('nft', 'openssl') || needsEtcd().skip || false;

t.test('the same declaration on two hosts, whose VMs reach each other', { skip: noLab }, async (t) => {
  await demoImage(temporaryDirectory(t));
  const output = await runDemo(t, process.execPath, [], ['--hosts', '2', '--hypervisor', 'qemu']);
  t.match(output, /web on host-\d reaches db on host-\d: SSH-2\.0/);
  t.match(output, /db on host-\d reaches web on host-\d: SSH-2\.0/);
  if (noNamespaces('bird') === false)
    t.equal(
      output.match(/the client behind the spine reaches (web|db) at/g)?.length,
      2,
      'both are reached from outside',
    );
  t.equal(new Set([...output.matchAll(/runs on (host-\d)/g)].map(([, host]) => host)).size, 2, 'on different hosts');
  t.match(output, /All of it worked/);
});
