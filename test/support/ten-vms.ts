/**
 * Creates VMs at the same time, and repeatedly kills ucloud meanwhile. This program runs in its own network namespace and
 * prints its observations as JSON. test/chaos/ten-vms.test.ts checks them.
 *
 *     node test/support/ten-vms.ts <data directory> <image> qemu|simulated <number of VMs>
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { type Cloud, cleanUp, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { addedLines, footprint, processMarks } from '../../scripts/demo/footprint.ts';
import { eventually, exec } from '../../scripts/demo/steps.ts';

export interface TenVms {
  readonly names: readonly string[];
  readonly addresses: readonly string[];
  readonly macs: readonly string[];
  readonly running: number;
  /** QEMU processes, by the id of their VM. */
  readonly processes: readonly string[];
  readonly left: readonly string[];
  readonly leftInApi: number;
}

const [data = '', image = '', hypervisor = 'simulated', count = '10'] = process.argv.slice(2);
const names = Array.from({ length: Number(count) }, (_, i) => `vm-${i}`);
/** The numbers of running VMs at which the program kills the cloud: at the first requests, in the middle, near the end. */
const kills = [0, Math.ceil(names.length * 0.2), Math.ceil(names.length * 0.6)];

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly interfaces: readonly { readonly mac: string }[];
  readonly status: { readonly phase: string };
}

const vmsOf = async (cloud: Cloud) => ((await cloud.read(`vms?project=${cloud.project}`)) as { items: Vm[] }).items;
const runningIn = (vms: readonly Vm[]) => vms.filter(({ status }) => status.phase === 'running').length;

const start = () => startCloud(data, ['--hypervisor', hypervisor]);
const marks = processMarks(data);
const lab = join(data, 'lab');
const before = await footprint(marks, lab);
let cloud = await start();
async function story(): Promise<TenVms> {
  const { token } = await setUpCloud(cloud, data, image);
  // Each VM needs a processor, and the machine may have fewer.
  const hosts = (await cloud.ucloud('host', 'list')) as { items: { id: string }[] };
  for (const { id } of hosts.items) await cloud.ucloud('host', 'update', id, '--cpu-overcommit', '10');
  const prefix = await cloud.ucloud('prefix', 'create', '--name', 'site');
  const network = await cloud.ucloud('network', 'create', '--name', 'web', '--prefix', String(prefix.id));
  const images = (await cloud.ucloud('image', 'list', '--name', 'demo')) as { items: { id: string }[] };

  /** Repeats the same request with the same key, like a client without an answer. */
  const keys = new Map(names.map((name) => [name, randomUUID()]));
  const done = new Set<string>();
  const create = async (name: string) => {
    const answer = await fetch(`${cloud.endpoint}/v1/vms`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'idempotency-key': keys.get(name) ?? '',
      },
      body: JSON.stringify({
        name,
        image: images.items[0]?.id,
        memory: '128MiB',
        interfaces: [{ network: network.id }],
      }),
    });
    if (answer.status !== 201) throw new Error(`creation of ${name}: ${answer.status} ${await answer.text()}`);
    done.add(name);
  };
  const createAll = () => Promise.allSettled(names.filter((name) => !done.has(name)).map(create));

  for (const least of kills) {
    const asked = createAll();
    if (least > 0) {
      await asked;
      await eventually(`${least} VMs running`, 120_000, async () => {
        const running = runningIn(await vmsOf(cloud));
        if (running < least) throw new Error(`${running} run`);
      });
    }
    await cloud.kill();
    await asked;
    cloud = await start();
  }
  await eventually('all VMs accepted', 30_000, async () => {
    await createAll();
    if (done.size < names.length) throw new Error(`${done.size} are`);
  });
  const vms = await eventually('all VMs running', 240_000, async () => {
    const all = await vmsOf(cloud);
    if (runningIn(all) < names.length) {
      throw new Error(all.map(({ name, status }) => `${name}: ${JSON.stringify(status)}`).join('\n'));
    }
    return all;
  });

  const processes =
    hypervisor === 'qemu'
      ? (await exec('ps', ['-eo', 'args'], { maxBuffer: 16 * 1024 * 1024 })).stdout
          .split('\n')
          .filter((args) => /^\S*qemu-system/.test(args) && marks.some((mark) => args.includes(mark)))
          .map((args) => /\bvm-[0-9a-hjkmnp-tv-z]{16}\b/.exec(args)?.[0] ?? args)
      : [];
  for (const { id } of vms) await cloud.ucloud('vm', 'delete', id);
  await eventually('all VMs gone', 120_000, async () => {
    const rest = await vmsOf(cloud);
    if (rest.length > 0)
      throw new Error(rest.map(({ name, status }) => `${name}: ${JSON.stringify(status)}`).join('\n'));
  });
  await cloud.ucloud('network', 'delete', String(network.id));
  await cloud.ucloud('prefix', 'delete', String(prefix.id));
  const leftInApi = ((await cloud.ucloud('network', 'list')) as { items: unknown[] }).items.length;
  // This is the footprint that ucloud leaves after the removal of the last VM and network, before the cleanup.
  const leftByItself = await eventually('bridges and taps gone', 30_000, async () => {
    const left = addedLines(before, await footprint(marks, lab)).filter((line) => /interface|route|qemu/.test(line));
    if (left.length > 0) throw new Error(left.join('\n'));
    return left;
  });
  await cloud.stop();
  await cleanUp(data);
  return {
    names: vms.map(({ name }) => name).sort(),
    addresses: vms.map(({ address }) => address),
    macs: vms.flatMap(({ interfaces }) => interfaces.map(({ mac }) => mac)),
    running: runningIn(vms),
    processes,
    left: [...leftByItself, ...addedLines(before, await footprint(marks, lab))],
    leftInApi,
  };
}

try {
  console.log(JSON.stringify(await story()));
} catch (error) {
  await cloud.stop();
  await cleanUp(data);
  throw error;
}
