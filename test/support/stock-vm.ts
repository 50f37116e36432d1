/**
 * A VM of a stock image, from the import of the image to the report that the guest is ready. Runs as a program, inside a
 * network namespace of its own, and prints what it saw as JSON.
 *
 *     node test/support/stock-vm.ts <data directory> <image> [reboot]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Cloud, cleanUp, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';

export interface StockVm {
  readonly declared: string;
  /** The global addresses that the guest uses. */
  readonly addresses: readonly string[];
  readonly linkLocal: readonly string[];
  readonly hostName: string;
  readonly status: Readonly<Record<string, unknown>>;
  /** The files that the user data writes. */
  readonly userData: string;
  readonly resolvers: string;
  readonly errors: readonly unknown[];
  /** Numbers of frames from the guest, by kind. */
  readonly frames: Readonly<Record<string, number>>;
  /** The status after the guest has sent packets from an address of its own choice. */
  readonly strayed: Readonly<Record<string, unknown>>;
  /** The status after a reboot. */
  readonly rebooted?: Readonly<Record<string, unknown>>;
  readonly seconds: { readonly running: number; readonly ready: number };
}

const [data = '', image = '', reboot] = process.argv.slice(2);

const userData = `#cloud-config
write_files: [{path: /root/written, content: "written "}]
runcmd: [["sh", "-c", "printf ran > /root/ran"]]
`;

/** Begins to count the frames of guests. Returns the latest counts. */
async function captureFrames(): Promise<() => Record<string, number>> {
  const child = spawn('python3', [join(import.meta.dirname, 'capture-frames.py'), 'ut'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.on('exit', () => child.kill());
  let counts: Record<string, number> = {};
  const lines = createInterface({ input: child.stdout });
  await once(lines, 'line');
  lines.on('line', (line) => {
    counts = JSON.parse(line) as Record<string, number>;
  });
  return () => counts;
}

interface Vm {
  readonly id: string;
  readonly address: string;
  readonly status: {
    readonly phase: string;
    readonly ready: boolean;
    readonly reason?: string;
    readonly started_at?: string;
  };
}

async function createVm(cloud: Cloud, token: string, body: object): Promise<Vm> {
  const answer = await fetch(`${cloud.endpoint}/v1/vms`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  return (await answer.json()) as Vm;
}

async function story(cloud: Cloud): Promise<StockVm> {
  const frames = await captureFrames();
  const { token } = await setUpCloud(cloud, data, image);
  const prefix = await cloud.ucloud('prefix', 'create', '--name', 'site');
  const network = await cloud.ucloud('network', 'create', '--name', 'web', '--prefix', String(prefix.id));
  const keyFile = join(data, 'key');
  await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile]);
  const publicKey = readFileSync(`${keyFile}.pub`, 'utf8').trim();
  const key = await cloud.ucloud('ssh-key', 'create', '--name', 'me', '--public-key', publicKey);
  const images = (await cloud.ucloud('image', 'list', '--name', 'demo')) as { items: { id: string }[] };

  const begin = performance.now();
  const { id, address } = await createVm(cloud, token, {
    ...{ name: 'stock', image: images.items[0]?.id, interfaces: [{ network: network.id }] },
    ...{ cpus: 2, memory: '768MiB', ssh_keys: [key.id], user_data: userData },
  });
  const until = (what: string, seconds: number, reached: (vm: Vm) => boolean) =>
    eventually(what, seconds * 1000, async () => {
      const vm = (await cloud.read(`vms/${id}`)) as unknown as Vm | undefined;
      if (vm === undefined || !reached(vm)) throw new Error(JSON.stringify(vm?.status));
      return (performance.now() - begin) / 1000;
    });
  const running = await until('the VM runs', 120, ({ status }) => status.phase === 'running');
  const ready = await until('the guest is ready', 420, ({ status }) => status.ready).catch((error: unknown) => {
    const log = join(data, 'vms', id, 'console.log');
    throw new Error(readFileSync(log, 'latin1').slice(-6000), { cause: error });
  });

  const inGuest = async (command: string): Promise<string> => {
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes'];
    const args = ['-i', keyFile, ...options.flatMap((option) => ['-o', option]), `debian@${address}`, command];
    return (await exec('ssh', args)).stdout.trim();
  };
  const shown = JSON.parse(await inGuest('ip -json -6 address show')) as {
    readonly ifname: string;
    readonly addr_info: readonly { readonly local: string; readonly scope: string }[];
  }[];
  const of = (scope: string) =>
    shown
      .filter(({ ifname }) => ifname !== 'lo')
      .flatMap(({ addr_info }) => addr_info.filter((each) => each.scope === scope).map(({ local }) => local));
  const result = JSON.parse(await inGuest('cat /run/cloud-init/result.json')) as { v1: { errors: unknown[] } };
  const seen = {
    declared: address,
    addresses: of('global'),
    linkLocal: of('link'),
    hostName: await inGuest('hostname'),
    status: ((await cloud.ucloud('vm', 'get', id)) as { status: Record<string, unknown> }).status,
    userData: await inGuest('sudo cat /root/written /root/ran'),
    resolvers: await inGuest('cat /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null || true'),
    errors: result.v1.errors,
    frames: frames(),
    seconds: { running, ready },
  };
  const other = address.replace(/[0-9a-f]+$/, 'bad');
  const device = shown.find(({ ifname }) => ifname !== 'lo')?.ifname ?? '';
  await inGuest(`sudo ip -6 address add ${other}/64 dev ${device} nodad`);
  // Not every image lets users ping. Without an answer, ping ends with 1.
  await inGuest(`sudo ping -6 -c 4 -i 0.3 -W 1 -I ${other} fe80::1%${device} || [ $? = 1 ]`);
  await until('the status reports the other address', 60, ({ status }) => status.reason === 'other_addresses');
  const statusNow = async () => ((await cloud.ucloud('vm', 'get', id)) as { status: Record<string, unknown> }).status;
  const strayed = await statusNow();
  if (reboot === undefined) return { ...seen, strayed };
  await cloud.ucloud('vm', 'reboot', id);
  await until(
    'the guest is ready again',
    420,
    ({ status }) => status.ready && status.started_at !== strayed.started_at,
  );
  return { ...seen, strayed, rebooted: await statusNow() };
}

const cloud = await startCloud(data, ['--hypervisor', 'qemu']);
try {
  console.log(JSON.stringify(await story(cloud)));
} finally {
  await cloud.stop();
  await cleanUp(data);
}
process.exit();
