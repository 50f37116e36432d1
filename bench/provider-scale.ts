/**
 * Many VMs at once: `node bench/provider-scale.ts [--vms 1000] [--parallelism 50] [--state ucloud|local]`.
 *
 * The steps are an apply, a plan without changes, and a destroy. The figures of each step are: its time, compared with as many
 * `terraform_data` that have equal dependencies and equal state; the requests to the API per VM; the number of answers with
 * 409 or 429; and the maximum memory of a provider process. A warning or an error of Terraform ends the measurement.
 *
 * ucloud stores the state; with `--state local`, a file contains it. Terraform writes the whole file after each object, and
 * waits for the disk. The provider is built and installed as for users. ucloud runs in its own process on simulated hosts, with
 * the default rate limit. All processes share the processors of this machine.
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildProvider, executableName } from '../provider/build.ts';
import { TerraformDirectory } from '../test/support/terraform.ts';
import { startCloud, vmConfiguration } from './support/cloud.ts';
import { listed, startCounter, sum } from './support/counter.ts';
import { printTable, ratio } from './support/table.ts';

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '1000' },
    parallelism: { type: 'string', default: '50' },
    state: { type: 'string', default: 'ucloud' },
  },
});
const vms = Number(options.vms);
const parallelism = `-parallelism=${Number(options.parallelism)}`;
if (options.state !== 'ucloud' && options.state !== 'local') throw new Error('--state is ucloud or local');

/** Returns the maximum memory, in MiB, of the providers that Terraform runs in the directory (Linux). */
function peakMemory(directory: string): number {
  let peak = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(executableName)) continue;
      if (readlinkSync(`/proc/${pid}/cwd`) !== directory) continue;
      const kibibytes = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)?.[1];
      peak = Math.max(peak, Number(kibibytes ?? 0) / 1024);
    } catch (error) {
      // The process has ended during the loop.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return peak;
}

interface Measured {
  readonly seconds: number;
  /** The maximum memory of a provider in MiB; 0 if no provider was found. */
  readonly peak: number;
  readonly requests: ReadonlyMap<string, number>;
  readonly refused: ReadonlyMap<string, number>;
}

const stateIn = (address: string, query: string): string => `terraform {
  backend "http" {
    address        = "${address}${query}"
    lock_address   = "${address}/lock${query}"
    unlock_address = "${address}/lock${query}"
    lock_method    = "POST"
    unlock_method  = "DELETE"
  }
}
`;

/** The bytes of a `terraform_data` in the state without its value, which the state contains twice. */
const bytesAround = 600;

/** Returns the configuration of the comparison. It has equal dependencies, because edges cost Terraform much time. */
const dataConfiguration = (count: number, bytes: number): string => `
resource "terraform_data" "image" {}
resource "terraform_data" "prefix" {}
resource "terraform_data" "network" {
  input = terraform_data.prefix.id
}
resource "terraform_data" "this" {
  count      = ${count}
  input      = "${'x'.repeat(Math.max(0, Math.round((bytes - bytesAround) / 2)))}-\${count.index}"
  depends_on = [terraform_data.image, terraform_data.network]
}
`;

const temporary = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const built = await buildProvider(join(temporary, 'dist'));
const cloud = await startCloud(join(temporary, 'cloud'));
try {
  const counter = await startCounter(cloud.endpoint);
  const stateOf = (name: string) =>
    stateIn(`${cloud.endpoint}/v1/terraform-states/${name}`, `?project=${cloud.project}`);
  const prepare = async (name: string, main: string): Promise<TerraformDirectory> => {
    const directory = new TerraformDirectory(
      { 'main.tf': main, ...(options.state === 'ucloud' && { 'state.tf': stateOf(name) }) },
      {
        mirror: built.mirror,
        environment: {
          UCLOUD_ENDPOINT: counter.url,
          UCLOUD_TOKEN: cloud.token,
          UCLOUD_PROJECT: cloud.project,
          UCLOUD_CREDENTIALS: join(temporary, 'none'),
          UCLOUD_NODE: process.execPath,
          TF_HTTP_USERNAME: 'ucloud',
          TF_HTTP_PASSWORD: cloud.token,
        },
      },
    );
    await directory.run('init', '-no-color');
    return directory;
  };
  const measure = async (directory: TerraformDirectory, work: () => Promise<string>): Promise<Measured> => {
    counter.take();
    let peak = 0;
    const sampling = setInterval(() => {
      peak = Math.max(peak, peakMemory(directory.path));
    }, 250);
    const began = performance.now();
    const said = await work();
    const seconds = (performance.now() - began) / 1000;
    clearInterval(sampling);
    if (/Warning:|Error:/.test(said)) throw new Error(`Terraform told the user:\n${said}`);
    return { seconds, peak, ...counter.take() };
  };
  /** Measures the steps, and the bytes of state per object. */
  const measureAll = async (directory: TerraformDirectory) => {
    const apply = await measure(directory, () => directory.apply(parallelism));
    const bytes = (await directory.run('state', 'pull')).length / vms;
    const plan = await measure(directory, () => directory.run('plan', '-no-color', '-detailed-exitcode', parallelism));
    const destroy = await measure(directory, () => directory.destroy(parallelism));
    directory.remove();
    return { bytes, steps: { apply, 'plan without changes': plan, destroy } };
  };
  const ours = await measureAll(await prepare('vms', vmConfiguration(vms)));
  const theirs = await measureAll(await prepare('data', dataConfiguration(vms, ours.bytes)));
  counter.close();

  const rows = Object.entries(ours.steps).map(([step, { seconds, requests, refused, peak }]) => {
    const data = theirs.steps[step as keyof typeof theirs.steps].seconds;
    return [
      step,
      `${seconds.toFixed(1)} s`,
      `${data.toFixed(1)} s`,
      ratio(seconds, data),
      (sum(requests) / vms).toFixed(2),
      refused.size === 0 ? 'none' : listed(refused),
      peak === 0 ? 'not seen' : `${peak.toFixed(0)} MiB`,
    ];
  });
  const head = [`${vms}, ${parallelism}`, 'ucloud_vm', 'terraform_data', 'ratio'];
  printTable([...head, 'requests per VM', '409 and 429', 'memory'], rows);
  console.log(`\nstate: ${options.state}, ${ours.bytes.toFixed(0)} and ${theirs.bytes.toFixed(0)} bytes an object`);
  printTable(
    ['requests', ''],
    Object.entries(ours.steps).map(([step, { requests }]) => [step, listed(requests)]),
  );
} finally {
  await cloud.stop();
  rmSync(temporary, { recursive: true, force: true });
}
