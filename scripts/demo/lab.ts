/** The cloud of the demo with many hosts: a lab of network namespaces, and the tests of VMs on different hosts. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Cloud, clientOf, command } from './cloud.ts';
import { eventually, exec, show } from './steps.ts';

const directoryOf = (data: string): string => join(data, 'lab');

/** Removes an earlier lab with its VMs, and the data of the demo. */
export async function cleanUpLab(data: string): Promise<string> {
  if (!existsSync(data)) return '';
  const { stdout } = await exec(command, ['lab', 'down', '--data', directoryOf(data)]);
  rmSync(data, { recursive: true, force: true });
  return stdout.trim();
}

/** Starts the lab. Resolves when all hosts are alive. */
export async function startLab(data: string, hosts: number, hypervisor: string): Promise<Cloud> {
  const lab = directoryOf(data);
  await show(command, ['lab', 'up', '--data', lab, '--hosts', `${hosts}`, '--hypervisor', hypervisor], { quiet: true });
  const credentials = join(lab, 'credentials.json');
  const { endpoint, project, token } = JSON.parse(readFileSync(credentials, 'utf8')) as Record<string, string>;
  const client = clientOf({ endpoint: endpoint ?? '', credentials, project: project ?? '', token: token ?? '' });
  const { items } = (await client.read('hosts?limit=1')) as { items: { hypervisor: string }[] };
  const stop = async () => {
    await exec(command, ['lab', 'down', '--data', lab]);
  };
  return { ...client, hypervisor: items[0]?.hypervisor ?? '', output: () => '', stop, kill: stop };
}

/** Uploads the image, because the operator of many hosts has no directory in common with them. */
export async function uploadImage({ ucloud, credentials }: Cloud, image: string): Promise<void> {
  await exec(command, ['file', 'upload', image], { env: { ...process.env, UCLOUD_CREDENTIALS: credentials } });
  const source = `file:${basename(image)}`;
  await ucloud('image', 'create', '--name', 'demo', '--source', source, '--visibility', 'public', '--wait');
}

/** Tells whether the lab has BGP sessions, so that its client reaches the VMs. */
export async function hasClient(data: string): Promise<boolean> {
  const { stdout } = await exec(command, ['lab', 'status', '--json', '--data', directoryOf(data)]);
  return (JSON.parse(stdout) as { readonly sessions?: unknown }).sessions !== undefined;
}

/** Tests that each VM lets the user in from its host, and reaches the others. Returns a line for each fact. */
export async function verifyLabVms(data: string, { ucloud }: Cloud, ssh: readonly string[]): Promise<string[]> {
  const { items } = (await ucloud('vm', 'list')) as {
    items: { name: string; address: string; status: { host: string } }[];
  };
  const { items: hosts } = (await ucloud('host', 'list')) as { items: { id: string; name: string }[] };
  const placed = items.map(({ name, address, status }) => ({
    name,
    address,
    host: hosts.find(({ id }) => id === status.host)?.name ?? '',
  }));
  const facts = placed.map(({ name, address, host }) => `${name}  ${address}  runs on ${host}`);
  const run = (host: string, address: string, line: string) => {
    const words = ['lab', 'exec', host, '--data', directoryOf(data), '--', 'ssh', ...ssh, `ucloud@${address}`, line];
    return exec(command, words).then(({ stdout }) => stdout.trim());
  };
  if (await hasClient(data)) {
    for (const { name, address } of placed) {
      await eventually(`ssh from the client to ${name}`, 60_000, () => run('client', address, 'true'));
      facts.push(`the client behind the spine reaches ${name} at ${address}`);
    }
  }
  for (const from of placed) {
    for (const to of placed) {
      if (to.name === from.name) continue;
      const greeting = await eventually(`ssh to ${from.name}, and from there to ${to.name}`, 60_000, async () => {
        const answer = await run(from.host, from.address, `nc -w 5 ${to.address} 22 < /dev/null | head -c 7`);
        if (answer !== 'SSH-2.0') throw new Error(`it answers ${JSON.stringify(answer)}`);
        return answer;
      });
      facts.push(`${from.name} on ${from.host} reaches ${to.name} on ${to.host}: ${greeting}`);
    }
  }
  return facts;
}
