/**
 * Many VMs at once: `node bench/provider-scale.ts [--vms 1000] [--parallelism 50]`.
 *
 * For apply, a plan without changes, and destroy: the time, the requests to the API per VM, how often the API answered
 * 409 or 429, and the most memory that a process of the provider had. Whatever Terraform tells the user besides success
 * ends the measurement with an error. The provider is built and installed as users have it; ucloud runs in a process of
 * its own on simulated hosts, with the rate limit that it has by default. All share the processors of this machine.
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildProvider } from '../provider/build.ts';
import { TerraformDirectory } from '../test/support/terraform.ts';
import { startCloud, vmConfiguration } from './support/cloud.ts';
import { listed, startCounter, sum } from './support/counter.ts';
import { printTable } from './support/table.ts';

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '1000' },
    parallelism: { type: 'string', default: '50' },
  },
});
const vms = Number(options.vms);
const parallelism = `-parallelism=${Number(options.parallelism)}`;

/** Most memory, in MiB, that any provider had which Terraform runs in the directory (Linux). */
function peakMemory(directory: string): number {
  let peak = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('provider.cjs')) continue;
      if (readlinkSync(`/proc/${pid}/cwd`) !== directory) continue;
      const kibibytes = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)?.[1];
      peak = Math.max(peak, Number(kibibytes ?? 0) / 1024);
    } catch (error) {
      // Ended meanwhile.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return peak;
}

const temporary = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const built = await buildProvider(join(temporary, 'dist'));
const cloud = await startCloud(join(temporary, 'cloud'));
try {
  const counter = await startCounter(cloud.endpoint);
  const directory = new TerraformDirectory(
    { 'main.tf': vmConfiguration(vms) },
    {
      mirror: built.mirror,
      environment: {
        UCLOUD_ENDPOINT: counter.url,
        UCLOUD_TOKEN: cloud.token,
        UCLOUD_PROJECT: cloud.project,
        UCLOUD_CREDENTIALS: join(temporary, 'none'),
        UCLOUD_NODE: process.execPath,
      },
    },
  );
  await directory.run('init', '-no-color');
  const rows: string[][] = [];
  const details: string[][] = [];
  const measure = async (words: string, work: () => Promise<string>) => {
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
    const { requests, refused } = counter.take();
    rows.push([
      words,
      `${seconds.toFixed(1)} s`,
      `${((seconds / vms) * 1000).toFixed(0)} ms`,
      (sum(requests) / vms).toFixed(2),
      refused.size === 0 ? 'none' : listed(refused),
      peak === 0 ? 'not seen' : `${peak.toFixed(0)} MiB`,
    ]);
    details.push([words, listed(requests)]);
  };
  await measure('apply', () => directory.apply(parallelism));
  await measure('plan without changes', () => directory.run('plan', '-no-color', '-detailed-exitcode', parallelism));
  await measure('destroy', () => directory.destroy(parallelism));
  directory.remove();
  counter.close();
  printTable([`${vms} VMs, ${parallelism}`, 'time', 'per VM', 'requests per VM', '409 and 429', 'memory'], rows);
  console.log();
  printTable(['requests', ''], details);
} finally {
  await cloud.stop();
  rmSync(temporary, { recursive: true, force: true });
}
