/**
 * A file scanner with its store, in a process of its own, so that a test can limit and measure its memory. The directory of
 * one project gets many files, that of another one has few. Prints the measurements as JSON.
 *
 *     node test/support/many-files.ts <directory> <number of files> <quota of files>
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureProject } from '../../backend/api/tokens/first-operator-token.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { startFileScanner } from '../../backend/filescanner/start.ts';
import type { Logger } from '../../backend/model/component.ts';
import { fileId } from '../../backend/model/file/names.ts';
import { events, fileDirectories, files, projects } from '../../backend/model/records/index.ts';
import { put, read, readAll } from '../../backend/store/collection.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { until } from './eventually.ts';

/** The measurements. */
export interface ManyFiles {
  /** The time until all files within the quota were recorded. */
  readonly allSeconds: number;
  readonly allCpuSeconds: number;
  /** The time until the first file of the other project was recorded, while the many files were being recorded. */
  readonly otherSeconds: number;
  /** The time until a change among the many files was recorded. */
  readonly changeSeconds: number;
  /** The CPU time while nothing changed, as a share of the time. Only with many files. */
  readonly idleCpu: number | undefined;
  readonly maxRssMiB: number;
  readonly events: number;
  readonly logLines: number;
}

const [directory = '', countText = '', quotaText = ''] = process.argv.slice(2);
const count = Number(countText);
const quota = Number(quotaText);
/** Real limits for a million files; shorter ones for a few. */
const long = count > 100_000;
const limits = long ? {} : { quietMs: 500, intervalMs: 1000, pauseMs: 50 };
const deadlineSeconds = long ? 7200 : 120;

let logLines = 0;
const log = () => {
  logLines++;
};
const logger: Logger = { debug: () => undefined, info: () => undefined, warn: log, error: log, child: () => logger };

const store = await openEmbeddedStore({ path: join(directory, 'store.db') });
const many = await ensureProject(store, 'many');
const other = await ensureProject(store, 'other');
const project = await read(store, projects, many);
if (!project) throw new Error('the project is missing');
await store.commit({ write: [put(projects, many, { ...project.value, quota: { files: quota } })] });
const root = join(directory, 'files');
for (const each of [many, other]) mkdirSync(join(root, each), { recursive: true });
// Names of wrong bytes are the longest in the database.
const nameOf = (i: number) => Buffer.concat([Buffer.from(String(i).padStart(8, '0')), Buffer.alloc(i % 100, 0xff)]);
const pathOf = (i: number) => Buffer.concat([Buffer.from(`${join(root, many)}/`), nameOf(i)]);
for (let i = 0; i < count; i++) writeFileSync(pathOf(i), '');

const started = performance.now();
const cpu = process.cpuUsage();
const secondsSince = (from: number) => (performance.now() - from) / 1000;
const scanner = await startFileScanner({ store: store.session(), logger, root, name: 'files1', limits });
const server = scanner.server as Id<'file_server'>;
const state = async (of: Id<'project'>) => (await read(store, fileDirectories, `${server}/${of}`))?.value;
const recorded = async (of: Id<'project'>, name: Uint8Array) => read(store, files, fileId(server, of, name));

await until('the first files', async () => ((await state(many))?.files ?? 0) > 0, deadlineSeconds);
const dropped = performance.now();
writeFileSync(join(root, other, 'few'), 'few');
const few = until('the other project', () => recorded(other, Buffer.from('few')), deadlineSeconds).then(() =>
  secondsSince(dropped),
);
await until('all files', async () => (await state(many))?.files === Math.min(count, quota), deadlineSeconds);
const allSeconds = secondsSince(started);
const { user, system } = process.cpuUsage(cpu);
const otherSeconds = await few;
await until(
  'refusals',
  async () => ((await state(many))?.refused ?? 0) === Math.max(count - quota, 0),
  deadlineSeconds,
);

// One of the recorded files changes.
const known = await (async () => {
  for (let i = 0; i < count; i++) if (await recorded(many, nameOf(i))) return i;
  throw new Error('no file has a record');
})();
const changed = performance.now();
writeFileSync(pathOf(known), 'changed');
await until('the change', async () => (await recorded(many, nameOf(known)))?.value.size === 7, deadlineSeconds);
const changeSeconds = secondsSince(changed);

/** The share of a processor that the scans of three minutes take. */
async function idleShare(): Promise<number> {
  const before = process.cpuUsage();
  const from = performance.now();
  await until('three minutes', () => secondsSince(from) > 180, deadlineSeconds);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6 / secondsSince(from);
}
const idleCpu = long ? await idleShare() : undefined;
let eventCount = 0;
for await (const { value } of readAll(store, events)) if (value.reason === 'files_refused') eventCount++;
await scanner.close();
await store.close();
const measured: ManyFiles = {
  allSeconds,
  allCpuSeconds: (user + system) / 1e6,
  otherSeconds,
  changeSeconds,
  idleCpu,
  maxRssMiB: process.resourceUsage().maxRSS / 1024,
  events: eventCount,
  logLines,
};
console.log(JSON.stringify(measured));
