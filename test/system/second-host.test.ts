/** Follows the guide about a second host in a lab, with real networks and VMs of QEMU that have nothing to boot. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { apiUrl, labPlan, storeUrl } from '../../backend/lab/plan.ts';
import { runUcloud } from '../support/cli.ts';
import { hasEtcd } from '../support/etcd.ts';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { exemption } from '../support/pages.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const page = 'docs/guides/add-a-second-host.md';
const skip = noNamespaces('nft', 'radvd', 'openssl') || (await noQemu()) || (hasEtcd ? false : 'etcd is not installed');

t.test('the guide about a second host', { skip, timeout: 600_000 }, async (t) => {
  const home = temporaryDirectory(t);
  const directory = join(home, 'lab');
  const ucloud = async (...args: string[]) => {
    const { code, out, err } = await runUcloud(args, { UCLOUD_CREDENTIALS: join(directory, 'credentials.json') });
    if (code !== 0) throw new Error(`ucloud ${args.join(' ')}: ${err}`);
    return out;
  };
  const options = { hosts: 2, etcd: 1, hypervisor: 'qemu' } as const;
  t.teardown(() => ucloud('lab', 'down', '--data', directory));
  await ucloud('lab', 'up', '--data', directory, '--hosts', '2', '--etcd', '1', '--hypervisor', 'qemu');
  const plan = labPlan(directory, options);
  const addressOf = (name: string) => plan.nodes.find((node) => node.name === name)?.address ?? '';

  const disk = join(home, 'empty.raw');
  writeFileSync(disk, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
  await ucloud('file', 'upload', disk);
  await ucloud('image', 'create', '--name', 'demo', '--source', 'file:empty.raw', '--wait');
  await ucloud('prefix-pool', 'create', '--name', 'main', '--cidr', 'fd42::/32');
  await ucloud('prefix', 'create', '--name', 'site', '--pool', 'main', '--length', '48');
  await ucloud('network', 'create', '--name', 'web', '--prefix', 'site');
  for (const name of ['host-1', 'host-2']) await ucloud('lab', 'kill', `${name}/agent`, '--data', directory);

  const store = storeUrl(plan, join(directory, 'certificates'));
  const onHost = (name: string) => `ucloud lab exec ${name} --`;
  await runGuide(t, page, temporaryDirectory(t), {
    directory: home,
    environment: {
      ...readerEnvironment(home),
      UCLOUD_LAB: directory,
      UCLOUD_CREDENTIALS: join(directory, 'credentials.json'),
      UCLOUD_ENDPOINT: apiUrl(plan),
    },
    exempt: (block) => exemption(page, block),
    // The reader is logged in to the hosts, and the command is installed.
    adapt: (text) =>
      text
        .replaceAll('npx ucloud', 'ucloud')
        .replace(/^(ip|bridge) /gm, `${onHost('host-1')} $1 `)
        .replace(
          /^ucloud agent --store \S+ --name (\S+)/gm,
          (_line, name: string) =>
            `${onHost(name)} ucloud agent --store '${store}' --data ${join(directory, 'nodes', name)} --hypervisor qemu --name ${name}`,
        )
        .replaceAll('fd00:f::1', addressOf('host-1'))
        .replaceAll('fd00:f::2', addressOf('host-2')),
  });
});
