/** `ucloud file upload`: uploads a local file, and resumes after an interruption. */
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { uploadMediaType } from '../contract/resources/uploads.ts';
import { describeSize } from '../model/text/sizes.ts';
import { ApiFailure, call, exchange, requireCredentials } from './client.ts';
import { credentialsPath } from './credentials.ts';
import { projectOf } from './image-import.ts';
import { print } from './output.ts';
import { waitLimit } from './resources.ts';
import { tell } from './standard-output.ts';

interface UploadOptions {
  readonly name?: string;
  readonly project?: string;
  readonly waitTimeout: number;
  readonly json?: boolean;
}

/** The number of attempts in a row that bring no further bytes. */
const maxAttempts = 20;
const protocol = { 'tus-resumable': '1.0.0' };
/** Shows the progress on a terminal. */
class ProgressBar {
  readonly #total: number;
  readonly #what: string;
  #shownAt = 0;

  constructor(what: string, total: number) {
    this.#what = what;
    this.#total = total;
  }

  show(done: number): void {
    const now = performance.now();
    if (!process.stderr.isTTY || (now - this.#shownAt < 200 && done < this.#total)) return;
    this.#shownAt = now;
    const share = this.#total === 0 ? 1 : done / this.#total;
    const bar = '#'.repeat(Math.floor(share * 30)).padEnd(30);
    const sizes = `${describeSize(done)} of ${describeSize(this.#total)}`;
    process.stderr.write(`\r${this.#what} [${bar}] ${Math.floor(share * 100)} % ${sizes} \u001b[K`);
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\n');
  }
}

async function sha256Of(path: string, size: number): Promise<string> {
  const hash = createHash('sha256');
  const bar = new ProgressBar('Reading', size);
  let done = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
    hash.update(chunk as Buffer);
    done += (chunk as Buffer).length;
    bar.show(done);
  }
  bar.end();
  if (done !== size) throw new Error(`${path} changed while it was read`);
  return hash.digest('hex');
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** The upload that an earlier run of the command has begun. The file contains its path in the API. */
class Memory {
  readonly #path: string;

  constructor(...of: readonly (string | number)[]) {
    const key = createHash('sha256').update(JSON.stringify(of)).digest('hex').slice(0, 32);
    this.#path = join(dirname(credentialsPath()), 'uploads', key);
  }

  get(): string | undefined {
    try {
      return /^\/v1\/uploads\/upl-[0-9a-z]{16}$/.exec(readFileSync(this.#path, 'utf8'))?.[0];
    } catch {
      return undefined;
    }
  }

  set(upload: string): void {
    try {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
      writeFileSync(this.#path, upload, { mode: 0o600 });
    } catch {
      // Without this file only the next run of the command begins anew.
    }
  }

  clear(): void {
    rmSync(this.#path, { force: true });
  }
}

/** Tells whether the same request may succeed later. */
function isTemporary(error: unknown): boolean {
  if (!(error instanceof ApiFailure)) return false;
  const { status, cause } = error;
  if (status === undefined) return cause !== undefined;
  return [408, 409, 429, 500, 502, 503, 504].includes(status);
}

/** Returns the offset of the upload and its file; undefined if the API does not have it any more. */
async function stateOf(path: string): Promise<{ readonly offset: number; readonly file: string } | undefined> {
  try {
    const { headers } = await exchange({ method: 'HEAD', path, headers: protocol });
    return { offset: Number(headers['upload-offset']), file: String(headers['ucloud-file']) };
  } catch (error) {
    // A response to HEAD has no body, so it has no code either.
    if (error instanceof ApiFailure && error.status === 404) return undefined;
    throw error;
  }
}

/** Sends the rest of the file. Repeats it after interruptions, as long as there is progress. Returns the file's id. */
async function sendAll(path: string, local: string, size: number): Promise<string> {
  const bar = new ProgressBar('Uploading', size);
  let best = -1;
  for (let attempt = 1; ; attempt++) {
    try {
      const state = await stateOf(path);
      if (!state) throw new Error('the upload is gone: its content was not the declared one, or it has expired');
      const { offset, file } = state;
      if (offset > best) attempt = 1;
      best = Math.max(best, offset);
      bar.show(offset);
      if (offset < size) {
        let sent = offset;
        const counter = new Transform({
          transform(chunk: Buffer, _encoding, done) {
            sent += chunk.length;
            bar.show(sent);
            done(null, chunk);
          },
        });
        const stream = createReadStream(local, { start: offset, end: size - 1, highWaterMark: 2 ** 18 }).pipe(counter);
        const headers = {
          ...protocol,
          'content-type': uploadMediaType,
          'content-length': String(size - offset),
          'upload-offset': String(offset),
        };
        await exchange({ method: 'PATCH', path, headers, stream });
      }
      bar.end();
      return file;
    } catch (error) {
      if (!isTemporary(error) || attempt >= maxAttempts) {
        bar.end();
        throw error;
      }
      await delay(Math.min(250 * 2 ** attempt, 5000));
    }
  }
}

/** Waits until the scanner has recorded the file. */
async function recorded(id: string, sha256: string, seconds: number): Promise<unknown> {
  const deadline = performance.now() + seconds * 1000;
  for (let after: string | undefined; ; ) {
    const left = Math.ceil((deadline - performance.now()) / 1000);
    if (left <= 0) throw new Error(`the file ${id} is uploaded, but its file scanner has not recorded it yet`);
    const timeout = String(Math.min(left, 30));
    const query = { ids: id, ...(after !== undefined && { after, timeout }) };
    const list = (await call({ method: 'GET', path: '/v1/files', query })) as {
      readonly revision: number;
      readonly items: readonly { readonly sha256: string }[];
    };
    if (list.items[0]?.sha256 === sha256) return list.items[0];
    after = String(list.revision);
  }
}

async function upload(local: string, options: UploadOptions): Promise<void> {
  const stats = statSync(local);
  if (!stats.isFile()) throw new Error(`${local} is not a regular file`);
  const { size, mtimeMs } = stats;
  const name = options.name ?? basename(local);
  const project = await projectOf(options.project);
  const sha256 = await sha256Of(local, size);
  const memory = new Memory(requireCredentials().endpoint, project, name, sha256);
  let path = memory.get();
  const earlier = path && (await stateOf(path).catch(() => undefined));
  if (!earlier) path = undefined;
  if (path === undefined) {
    const metadata = `name ${base64(name)},sha256 ${base64(sha256)},project ${base64(project)}`;
    const headers = { ...protocol, 'upload-length': String(size), 'upload-metadata': metadata };
    const created = await exchange({ method: 'POST', path: '/v1/uploads', headers });
    path = String(created.headers.location);
    memory.set(path);
  } else if (earlier && earlier.offset < size) tell(`Resuming at ${describeSize(earlier.offset)}.`);
  const file = await sendAll(path, local, size);
  memory.clear();
  if (statSync(local).mtimeMs !== mtimeMs) tell(`${local} changed meanwhile; the upload has its earlier content.`);
  await print(await recorded(file, sha256, options.waitTimeout), options);
}

/** Adds the command to `ucloud file`, beside the commands of the API. */
export function addFileUpload(program: Command): void {
  const file = program.commands.find((command) => command.name() === 'file') ?? program.command('file');
  file
    .command('upload')
    .description('Upload a file. The same command resumes an interrupted upload')
    .argument('<file>', 'local file')
    .option('--name <name>', 'name of the file in the project. Default: its local name')
    .option('--project <id or name>', 'project of the file. Default: that of the token or the credentials')
    .addOption(waitLimit())
    .option('--json', 'print JSON')
    .action(upload);
}
