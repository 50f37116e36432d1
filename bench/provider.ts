/**
 * The costs of the provider, as ratios within one run: `node bench/provider.ts [--vms 200] [--starts 21] [--rounds 3]`.
 * With `--vms 0`, the bench measures only the starts.
 *
 *   start     the time from the start of the process to its handshake, as launcher and as executable, compared with a bare
 *             `node`; and the time of a process that only returns its schema, compared with a `node` that only ends
 *   plan      a plan of one VM and of many, compared with as many `terraform_data`, a built-in resource of Terraform
 *   apply     the same for an apply and a destroy
 *   floor     the same with a provider that does nothing (support/instant-provider.ts): the costs of Terraform, for
 *             objects with as many attributes, and of the starts of Node
 *   requests  the requests to the API per VM, which a proxy counts in a separate run
 *
 * The provider is built and installed as for users. ucloud runs in its own process on simulated hosts. All processes share the
 * processors of this machine.
 */
import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { address, buildExecutable, buildProvider, executableName, platform } from '../provider/build.ts';
import { createCertificate } from '../provider/protocol/certificate.ts';
import { frame } from '../provider/protocol/grpc.ts';
import { version } from '../provider/schema/resources.gen.ts';
import { PluginClient } from '../test/support/plugin-client.ts';
import { TerraformDirectory } from '../test/support/terraform.ts';
import { startCloud, vmConfiguration } from './support/cloud.ts';
import { listed, startCounter, sum } from './support/counter.ts';
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

/** Returns the milliseconds from the start of a program to its first output. */
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

const terraform = createCertificate();

/** Returns the milliseconds from the start of a provider to its end. In between, it returns its schema to Terraform. */
async function schemaOnly(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const began = performance.now();
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  if (args.length === 0) {
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const [, , , socketPath = '', , certificate = ''] = line.toString().trim().split('|');
    const serverPem = new X509Certificate(Buffer.from(certificate, 'base64')).toString();
    const client = await PluginClient.connect(socketPath, { own: terraform, serverPem });
    await client.raw('/tfplugin6.Provider/GetProviderSchema', frame(new Uint8Array()));
    await client.raw('/plugin.GRPCController/Shutdown', frame(new Uint8Array()));
    await ended;
    client.close();
  }
  await ended;
  return performance.now() - began;
}

/** Returns the medians of alternating starts, so that other load on the machine affects all of them. */
async function measureStarts(
  programs: Readonly<Record<string, readonly string[]>>,
  measure: typeof firstOutput,
): Promise<Map<string, number>> {
  // Only some machines have additional certificates, which would make the start slower.
  const { NODE_EXTRA_CA_CERTS: _certificates, ...environment } = process.env;
  const env = {
    ...environment,
    UCLOUD_NODE: process.execPath,
    TF_PLUGIN_MAGIC_COOKIE: 'd602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2',
    PLUGIN_PROTOCOL_VERSIONS: '6',
    PLUGIN_CLIENT_CERT: terraform.pem,
  };
  const times = new Map<string, number[]>(Object.keys(programs).map((name) => [name, []]));
  for (let i = 0; i < starts; i++) {
    for (const [name, [command = '', ...args]] of Object.entries(programs)) {
      times.get(name)?.push(await measure(command, args, env));
    }
  }
  return new Map([...times].map(([name, values]) => [name, median(values)]));
}

const dataConfiguration = (count: number): string => `
resource "terraform_data" "this" {
  count = ${count}
  input = "vm-\${count.index}"
}
`;

/** The times of the measured steps, in their order. */
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

/** Measures each step, and copies the state after the apply to `recordAs`. */
async function measureRun(directory: TerraformDirectory, recordAs?: string): Promise<Times> {
  const planNew = await timed(() => directory.run('plan', '-no-color'));
  const apply = await timed(() => directory.apply());
  if (recordAs !== undefined) copyFileSync(join(directory.path, 'terraform.tfstate'), recordAs);
  return {
    planNew,
    apply,
    planSame: await timed(() => directory.run('plan', '-no-color', '-detailed-exitcode')),
    destroy: await timed(() => directory.destroy()),
  };
}

/** Builds the provider that does nothing, installed like the real one. Returns its mirror. */
async function buildInstantProvider(): Promise<string> {
  const directory = join(temporary, 'instant');
  await buildExecutable(directory, join(import.meta.dirname, 'support/instant-provider.ts'));
  const mirror = join(temporary, 'instant-mirror');
  const installed = join(mirror, address, version, platform);
  mkdirSync(installed, { recursive: true });
  const launcher = `#!/bin/sh\nexec '${join(directory, executableName)}' "$@"\n`;
  writeFileSync(join(installed, executableName), launcher, { mode: 0o755 });
  return mirror;
}

const temporary = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const built = await buildProvider(join(temporary, 'dist'));
const programs = {
  node: [process.execPath, '-e', 'process.stdout.write("x")'],
  launcher: [built.launcher],
  ...(built.executable !== undefined && { executable: [join(built.executable, executableName)] }),
};
for (const [words, measure] of [
  ['start to handshake', firstOutput],
  ['start for the schema, to its end', schemaOnly],
] as const) {
  const times = await measureStarts(programs, measure);
  printTable(
    [words, 'median', 'to node'],
    [...times].map(([name, time]) => [name, milliseconds(time), ratio(time, times.get('node') ?? 0)]),
  );
  console.log();
}
if (many === 0) {
  rmSync(temporary, { recursive: true, force: true });
  process.exit();
}

const cloud = await startCloud(join(temporary, 'cloud'));
try {
  const environment = (endpoint: string) => ({
    UCLOUD_ENDPOINT: endpoint,
    UCLOUD_TOKEN: cloud.token,
    UCLOUD_PROJECT: cloud.project,
    UCLOUD_CREDENTIALS: join(temporary, 'none'),
    UCLOUD_NODE: process.execPath,
  });
  const prepare = async (main: string, { endpoint = cloud.endpoint, mirror = built.mirror, state = '' } = {}) => {
    const variables = { ...environment(endpoint), UCLOUD_BENCH_STATE: state };
    const directory = new TerraformDirectory({ 'main.tf': main }, { mirror, environment: variables });
    await directory.run('init', '-no-color');
    return directory;
  };
  const instantMirror = built.executable === undefined ? undefined : await buildInstantProvider();
  const rows: string[][] = [];
  for (const count of new Set([1, many])) {
    const runs = { ucloud: [] as Times[], floor: [] as Times[], data: [] as Times[] };
    const run = async (into: Times[], directory: TerraformDirectory, recordAs?: string) => {
      into.push(await measureRun(directory, recordAs));
      directory.remove();
    };
    for (let i = 0; i < rounds; i++) {
      const state = join(temporary, `state-${count}-${i}.json`);
      await run(runs.ucloud, await prepare(vmConfiguration(count)), state);
      if (instantMirror !== undefined) {
        await run(runs.floor, await prepare(vmConfiguration(count), { mirror: instantMirror, state }));
      }
      await run(runs.data, await prepare(dataConfiguration(count)));
    }
    for (const [step, text] of [
      ['planNew', 'plan of new'],
      ['apply', 'apply'],
      ['planSame', 'plan without changes'],
      ['destroy', 'destroy'],
    ] as const) {
      const of = (times: readonly Times[]) => median(times.map((time) => time[step]));
      const [ucloud, data] = [of(runs.ucloud), of(runs.data)];
      const floor = runs.floor.length > 0 ? of(runs.floor) : undefined;
      rows.push([
        `${text}, ${count}`,
        ...[ucloud, floor, data].map((time) => (time === undefined ? '-' : milliseconds(time))),
        ratio(ucloud, data),
        floor === undefined ? '-' : ratio(floor, data),
      ]);
    }
  }
  printTable(['terraform', 'ucloud_vm', 'floor', 'terraform_data', 'ratio', 'floor ratio'], rows);

  const counter = await startCounter(cloud.endpoint);
  const directory = await prepare(vmConfiguration(many), { endpoint: counter.url });
  const requests: string[][] = [];
  const count = async (words: string, work: () => Promise<unknown>) => {
    counter.take();
    await work();
    const { requests: counts } = counter.take();
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
