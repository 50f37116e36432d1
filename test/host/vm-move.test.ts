/** A real guest that moves with its root volume between two hosts of a lab, which share a directory. */
// Boots guests: each takes a core without hardware virtualisation.
import { existsSync, globSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { command } from '../../scripts/demo/cloud.ts';
import { startLab, uploadImage } from '../../scripts/demo/lab.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';
import { demoImage } from '../support/demo-image.ts';
import { hasEtcd } from '../support/etcd.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip =
  noNamespaces('nft', 'openssl', 'sysctl') || (hasEtcd ? false : 'etcd is not installed') || (await noQemu()) || false;

interface Vm {
  readonly id: string;
  readonly address: string;
  readonly status: { readonly phase: string; readonly ready: boolean; readonly host: string };
}

t.test('a guest finds its data on its new host', { skip, timeout: 600_000 }, async (t) => {
  const directory = temporaryDirectory(t);
  const [data, shared, key] = [join(directory, 'data'), join(directory, 'shared'), join(directory, 'key')];
  for (const each of [data, shared]) mkdirSync(each);
  t.teardown(() => exec(command, ['lab', 'down', '--data', join(data, 'lab')]));
  const image = await demoImage(directory);
  const cloud = await startLab(data, 2, 'qemu');
  const run = async (...args: string[]) => (await cloud.ucloud(...args)) as unknown as Vm;
  await uploadImage(cloud, image);
  await cloud.ucloud('prefix-pool', 'create', '--name', 'main', '--cidr', 'fd42:4242::/32');
  await cloud.ucloud('prefix', 'create', '--name', 'site');
  const network = await run('network', 'create', '--name', 'web', '--prefix', 'site');
  await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const publicKey = readFileSync(`${key}.pub`, 'utf8').trim();
  await run('ssh-key', 'create', '--name', 'me', '--public-key', publicKey);
  await run('storage-pool', 'create', '--name', 'fast', '--kind', 'shared', '--path', shared, '--wait');
  await run('volume', 'create', '--name', 'system', '--size', '1GiB', '--image', 'demo', '--pool', 'fast');
  const interfaces = JSON.stringify([{ network: network.id }]);
  const { id, address } = await run(
    ...['vm', 'create', '--name', 'db', '--root-volume', 'system', '--memory', '192MiB', '--ssh-keys', 'me'],
    ...['--interfaces', interfaces],
  );
  const isReady = () =>
    eventually('the guest is ready', 240_000, async () => {
      const vm = (await cloud.read(`vms/${id}`)) as unknown as Vm;
      if (!vm.status.ready) throw new Error(JSON.stringify(vm.status));
      return vm.status.host;
    });
  const nameOf = async (host: string) => String((await cloud.read(`hosts/${host}`))?.name);
  const inGuest = async (host: string, line: string) => {
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const ssh = ['ssh', '-i', key, ...options.flatMap((each) => ['-o', each]), `ucloud@${address}`, line];
    const { stdout } = await exec(command, ['lab', 'exec', host, '--data', join(data, 'lab'), '--', ...ssh]);
    return stdout.trim();
  };
  const source = await nameOf(await isReady());
  await inGuest(source, 'echo first > ~/kept; sync');
  await run('vm', 'stop', id, '--wait');
  t.match(await run('vm', 'move', id, '--wait'), { kind: 'vm_move', state: 'succeeded' });
  await run('vm', 'start', id);
  const target = await nameOf(await isReady());
  t.not(target, source);
  t.equal(await inGuest(target, 'cat ~/kept'), 'first');
  await eventually('the old host has no files of the VM', 30_000, async () => {
    const left = globSync(`${data}/lab/**/vms/${id}`).filter((path) => existsSync(path));
    if (left.length !== 1) throw new Error(left.join());
  });
  const { stdout } = await exec(command, [
    'lab',
    'exec',
    source,
    '--data',
    join(data, 'lab'),
    '--',
    'ip',
    '-o',
    'link',
  ]);
  t.notMatch(stdout, / ut[0-9a-f]+: /, 'it has no tap any more');
});
