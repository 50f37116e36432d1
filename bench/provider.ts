/**
 * What the provider costs, each as a ratio within one run: `node bench/provider.ts [--vms 200] [--starts 21] [--rounds 3]`.
 *
 *   start     from its launch to the line of its handshake, against the launch of a bare `node`
 *   plan      of one VM and of many, against as many `terraform_data`, which is part of Terraform itself
 *   apply     the same, and destroy
 *   requests  to the API per VM, counted by a proxy in a run of its own
 *
 * The provider is built and installed as users have it; ucloud runs in a process of its own on simulated hosts. All
 * share the processors of this machine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as forward } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Built, buildProvider } from '../provider/build.ts';
import { createCertificate } from '../provider/protocol/certificate.ts';
import { ApiClient } from '../test/support/api.ts';
import { rawDisk } from '../test/support/disk-images.ts';
import { TerraformDirectory } from '../test/support/terraform.ts';
import { median } from './support/load.ts';
import { printTable, ratio } from './support/table.ts';

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '200' },
    starts: { type: 'string', default: '21' },
    rounds: { type: 'string', default: '3' },
  },
});
const many = Number(options.vms);
const starts = Number(options.starts);
const rounds = Number(options.rounds);
const milliseconds = (time: number): string => `${Math.round(time)} ms`;

/** From the launch of a program to its first output. */
async function firstOutput(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const began = performance.now();
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const [first] = (await once(child.stdout, 'data')) as [Buffer];
  const time = performance.now() - began;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
  if (args.length === 0 && !first.toString().startsWith('1|6|unix|')) throw new Error(`no handshake: ${first}`);
  return time;
}

async function measureStart({ launcher }: Built): Promise<{ bare: number; provider: number }> {
  const env = {
    ...process.env,
    UCLOUD_NODE: process.execPath,
    TF_PLUGIN_MAGIC_COOKIE: 'd602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2',
    PLUGIN_PROTOCOL_VERSIONS: '6',
    PLUGIN_CLIENT_CERT: createCertificate().pem,
  };
  const bare: number[] = [];
  const provider: number[] = [];
  for (let i = 0; i < starts; i++) {
    bare.push(await firstOutput(process.execPath, ['-e', 'process.stdout.write("x")'], env));
    provider.push(await firstOutput(launcher, [], env));
  }
  return { bare: median(bare), provider: median(provider) };
}

interface Cloud {
  readonly endpoint: string;
  readonly token: string;
  readonly project: string;
  stop(): Promise<void>;
}

/** `ucloud up` on simulated hosts, with a pool of prefixes and an image. */
async function startCloud(directory: string): Promise<Cloud> {
  const credentials = join(directory, 'operator.json');
  const args = [
    'up',
    '--hypervisor',
    'simulated',
    '--listen',
    '[::1]:0',
    '--data',
    directory,
    '--credentials',
    credentials,
  ];
  const child: ChildProcess = spawn('backend/cli/ucloud', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout?.on('data', (text: Buffer) => {
    said += text;
  });
  const up = new Promise<void>((resolve) => {
    child.stdout?.on('data', () => said.includes('ucloud is up') && resolve());
  });
  await Promise.race([up, once(child, 'exit').then(() => Promise.reject(new Error(`ucloud ended:\n${said}`)))]);
  const { endpoint, token, project } = JSON.parse(readFileSync(credentials, 'utf8')) as Cloud;
  const operator = new ApiClient(endpoint, token);
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/36' });
  mkdirSync(join(directory, 'files', project), { recursive: true });
  writeFileSync(join(directory, 'files', project, 'demo.raw'), rawDisk());
  let image = await operator.create('images', { name: 'demo', project, source: 'file:demo.raw', visibility: 'public' });
  while (image.status.phase !== 'available') image = await operator.get('images', image.id, `?after=${image.revision}`);
  return {
    endpoint,
    token,
    project,
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

const vmConfiguration = (count: number): string => `${readFileSync('provider/examples/provider/provider.tf', 'utf8')}
data "ucloud_image" "demo" {
  name = "demo"
}
resource "ucloud_prefix" "this" {
  name = "bench"
}
resource "ucloud_network" "this" {
  name   = "bench"
  prefix = ucloud_prefix.this.id
}
resource "ucloud_vm" "this" {
  count      = ${count}
  name       = "vm-\${count.index}"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.this.id }]
}
`;
const dataConfiguration = (count: number): string => `
resource "terraform_data" "this" {
  count = ${count}
  input = "vm-\${count.index}"
}
`;

interface Times {
  readonly planNew: number;
  readonly apply: number;
  readonly planSame: number;
  readonly destroy: number;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

async function measureRun(directory: TerraformDirectory): Promise<Times> {
  return {
    planNew: await timed(() => directory.run('plan', '-no-color')),
    apply: await timed(() => directory.apply()),
    planSame: await timed(() => directory.run('plan', '-no-color', '-detailed-exitcode')),
    destroy: await timed(() => directory.destroy()),
  };
}

/** Passes requests on to the API and counts them. */
async function startCounter(endpoint: string) {
  const counts = new Map<string, number>();
  const target = new URL(endpoint);
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/\?.*/, (query) =>
      query.includes('after=') ? '?after' : query.includes('ids=') ? '?ids' : '',
    );
    const key = `${request.method} ${path.replace(/[a-z]+-[0-9a-z]{16}/, '{id}')}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
    const { method, url, headers } = request;
    const onward = forward(
      { host: target.hostname.replace(/[[\]]/g, ''), port: target.port, method, path: url, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://[::1]:${port}`,
    take(): Map<string, number> {
      const taken = new Map([...counts].filter(([key]) => key.includes('/v1/vms')));
      counts.clear();
      return taken;
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
const listed = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([key, count]) => `${count} × ${key}`).join(', ');

const temporary = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const built = await buildProvider(join(temporary, 'dist'));
const start = await measureStart(built);
printTable(
  ['start', 'median', 'to node'],
  [
    ['node', milliseconds(start.bare), '1.00'],
    ['provider', milliseconds(start.provider), ratio(start.provider, start.bare)],
  ],
);

const cloud = await startCloud(join(temporary, 'cloud'));
try {
  const environment = (endpoint: string) => ({
    UCLOUD_ENDPOINT: endpoint,
    UCLOUD_TOKEN: cloud.token,
    UCLOUD_PROJECT: cloud.project,
    UCLOUD_CREDENTIALS: join(temporary, 'none'),
    UCLOUD_NODE: process.execPath,
  });
  const prepare = async (main: string, endpoint = cloud.endpoint): Promise<TerraformDirectory> => {
    const directory = new TerraformDirectory(
      { 'main.tf': main },
      { mirror: built.mirror, environment: environment(endpoint) },
    );
    await directory.run('init', '-no-color');
    return directory;
  };
  const rows: string[][] = [];
  for (const count of [1, many]) {
    const ours: Times[] = [];
    const theirs: Times[] = [];
    for (let i = 0; i < rounds; i++) {
      const vms = await prepare(vmConfiguration(count));
      ours.push(await measureRun(vms));
      vms.remove();
      const data = await prepare(dataConfiguration(count));
      theirs.push(await measureRun(data));
      data.remove();
    }
    for (const step of ['planNew', 'apply', 'planSame', 'destroy'] as const) {
      const [a, b] = [ours, theirs].map((times) => median(times.map((time) => time[step])));
      const words = { planNew: 'plan of new', apply: 'apply', planSame: 'plan without changes', destroy: 'destroy' }[
        step
      ];
      rows.push([`${words}, ${count}`, milliseconds(a ?? 0), milliseconds(b ?? 0), ratio(a ?? 0, b ?? 1)]);
    }
  }
  console.log();
  printTable(['terraform', 'ucloud_vm', 'terraform_data', 'ratio'], rows);

  const counter = await startCounter(cloud.endpoint);
  const directory = await prepare(vmConfiguration(many), counter.url);
  const requests: string[][] = [];
  const count = async (words: string, work: () => Promise<unknown>) => {
    counter.take();
    await work();
    const counts = counter.take();
    requests.push([words, (sum(counts) / many).toFixed(2), listed(counts)]);
  };
  await count('apply', () => directory.apply());
  await count('plan without changes', () => directory.run('plan', '-no-color', '-detailed-exitcode'));
  await count('destroy', () => directory.destroy());
  directory.remove();
  counter.close();
  console.log();
  printTable([`requests, ${many} VMs`, 'per VM', ''], requests);
} finally {
  await cloud.stop();
  rmSync(temporary, { recursive: true, force: true });
}
