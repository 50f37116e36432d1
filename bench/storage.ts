/**
 * Measures the cost of images, disks and volumes on top of the programs and data that they need, as ratios within one run:
 * `node bench/storage.ts [--mebibytes 1024] [--disks 50] [--volumes 10000] [--rounds 3]`.
 *
 *   import   an image as the scanner imports it, compared with `qemu-img convert` of the same file
 *   disk     the disk of a new VM, compared with `qemu-img create` of the same overlay
 *   list     the first page of 100 volumes of 10,000, compared with the first page of 100 volumes
 */
import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { startApi } from '../backend/api/start.ts';
import { ensureOperatorToken, ensureProject } from '../backend/api/tokens/first-operator-token.ts';
import { prepareDisk } from '../backend/host/storage/disks.ts';
import { run as runProgram } from '../backend/host/system/command.ts';
import { newId } from '../backend/model/ids.ts';
import * as records from '../backend/model/records/index.ts';
import { FairSlots } from '../backend/scanner/fair-slots.ts';
import { importImage } from '../backend/scanner/import.ts';
import { defaultLimits } from '../backend/scanner/limits.ts';
import { put } from '../backend/store/collection.ts';
import { openStore } from '../backend/store/open.ts';
import { imageOf } from '../test/support/importer.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { median } from './support/load.ts';
import { printTable, ratio } from './support/table.ts';

const { values: options } = parseArgs({
  options: {
    mebibytes: { type: 'string', default: '1024' },
    disks: { type: 'string', default: '50' },
    volumes: { type: 'string', default: '10000' },
    rounds: { type: 'string', default: '3' },
  },
});
const [mebibytes, disks, volumes, rounds] = [
  Number(options.mebibytes),
  Number(options.disks),
  Number(options.volumes),
  Number(options.rounds),
];
const exec = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const path = (name: string) => join(directory, name);

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Measures both in turn, so that a disturbance of the machine affects both. Returns the medians. */
async function compare(ours: () => Promise<unknown>, bare: () => Promise<unknown>): Promise<[number, number]> {
  const results: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    results[0].push(await seconds(ours));
    results[1].push(await seconds(bare));
  }
  return [median(results[0]), median(results[1])];
}

const row = (name: string, [ours, bare]: [number, number]) => [
  name,
  `${ours.toFixed(3)} s`,
  `${bare.toFixed(3)} s`,
  ratio(ours, bare),
];

/** Half of the file is random content, and the other half is empty, as in a disk of an installed system. */
async function measureImport(): Promise<string[]> {
  const project = newId('project');
  const source = path('source.raw');
  const block = Buffer.alloc(2 ** 20);
  writeFileSync(source, '');
  await exec('truncate', ['-s', `${mebibytes}M`, source]);
  for (let at = 0; at < mebibytes; at += 2) {
    randomFillSync(block);
    // A boot sector, so that the scanner recognises a disk.
    if (at === 0) block.fill(0, 0, 510).writeUInt16LE(0xaa55, 510);
    writeFileSync(path('block'), block);
    await exec('dd', [`if=${path('block')}`, `of=${source}`, 'bs=1M', `seek=${at}`, 'conv=notrunc', 'status=none']);
  }
  const files = path('files');
  await exec('mkdir', ['-p', join(files, project), path('images/.staging')]);
  await exec('mv', [source, join(files, project, 'disk.raw')]);
  const places = { filesDir: files, imageStore: path('images'), staging: path('images/.staging') };
  const how = { allowPrivateAddresses: true, storeImage: true, limits: defaultLimits, conversions: new FairSlots(2) };
  const scanner = async () => {
    const image = imageOf(project, 'file:disk.raw');
    await importImage(image, { ...places, ...how }, new AbortController().signal, () => true);
  };
  const convert = async () => {
    const args = ['convert', '-f', 'raw', '-O', 'qcow2', join(files, project, 'disk.raw'), path('converted.qcow2')];
    await exec('qemu-img', args);
  };
  return row(`import of ${mebibytes} MiB / qemu-img convert`, await compare(scanner, convert));
}

async function measureDisks(): Promise<string[]> {
  const image = path('image.qcow2');
  await exec('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1G']);
  let made = 0;
  const repeat = async (create: (disk: string) => Promise<unknown>) => {
    for (let n = 0; n < disks; n++) await create(path(`disk-${made++}.qcow2`));
  };
  const bare = (disk: string) =>
    exec('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image, disk, '10G']);
  const ours = (disk: string) => prepareDisk(runProgram, disk, image, 10 * 2 ** 30);
  const result = await compare(
    () => repeat(ours),
    () => repeat(bare),
  );
  return row(`${disks} disks of VMs / qemu-img create`, result);
}

async function measureList(): Promise<string[]> {
  const store = await openStore(`embedded:${path('store.db')}`);
  const token = await ensureOperatorToken(store);
  if (!token) throw new Error('the store is not new');
  const [many, few] = [await ensureProject(store, 'many'), await ensureProject(store, 'few')];
  const api = await startApi({
    store,
    listen: { host: '::1', port: 0 },
    logger: silentLogger,
    rateLimit: { requestsPerMinute: 1e9 },
  });
  const call = async (target: string, init: RequestInit = {}) => {
    const headers = { authorization: `Bearer ${token.secret}`, 'content-type': 'application/json' };
    const answer = await fetch(`${api.url}${target}`, { ...init, headers });
    if (!answer.ok) throw new Error(`${target}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as { id: string; items: unknown[] };
  };
  const create = (project: string, name: string) =>
    call('/v1/volumes', { method: 'POST', body: JSON.stringify({ project, name, size: '1GiB' }) });
  for (const [project, count] of [
    [many, volumes],
    [few, 100],
  ] as const) {
    const { id } = await create(project, 'first');
    const entry = await store.get(records.volumes.prefix + id);
    const first: records.VolumeRecord = JSON.parse(entry?.value ?? '');
    for (let made = 1; made < count; made += 100) {
      const write = Array.from({ length: Math.min(100, count - made) }, (_, i) => {
        const copy = newId('volume');
        return put(records.volumes, copy, { ...first, id: copy, name: `copy-${made + i}` });
      });
      await store.commit({ write });
    }
  }
  const page = (project: string, count: number) => async () => {
    for (let n = 0; n < 20; n++) {
      const { items } = await call(`/v1/volumes?project=${project}&limit=100`);
      if (items.length !== Math.min(100, count)) throw new Error(`the page has ${items.length} volumes`);
    }
  };
  // The API shows records of other writers after a moment.
  const deadline = performance.now() + 60_000;
  while ((await call(`/v1/volumes?project=${few}&limit=100`)).items.length < 100) {
    if (performance.now() > deadline) throw new Error('the API does not show the volumes');
  }
  await page(many, volumes)();
  const result = await compare(page(many, volumes), page(few, 100));
  await api.close();
  await store.close();
  return row(`20 first pages of 100 volumes: of ${volumes} / of 100`, result);
}

try {
  printTable(['', 'ucloud', 'bare', 'ratio'], [await measureImport(), await measureDisks(), await measureList()]);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
