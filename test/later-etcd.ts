/**
 * Runs the tests of the database with a later etcd than that of Debian 12: only from 3.4.25 and 3.5.8 on, an agent watches its
 * own ranges (docs/adr/0027). The program comes from Debian 13, by its checksum, and stays below `.ucloud/cache`.
 *
 *     npm run test:etcd                        the tests of the store, and of components on etcd
 *     npm run test:etcd -- test/store          some folders or files
 *     npm run test:etcd -- bench/agents.ts     a benchmark
 */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const name = 'etcd-server_3.5.16-4_amd64.deb';
const sha256 = '0875921bb0d023f2af9b8e15cdfbe417a03e65731345fb832c40f9c2dd72967b';
/** The archive of Debian keeps packages that its pool no longer has. */
const sources = [
  `http://deb.debian.org/debian/pool/main/e/etcd/${name}`,
  `http://snapshot.debian.org/archive/debian/20250901T000000Z/pool/main/e/etcd/${name}`,
];
const timeoutMs = 120_000;
const tests = ['test/store', 'test/chaos/orders.test.ts', 'test/api/versions-side-by-side.test.ts'];

async function download(): Promise<Buffer> {
  const failures: string[] = [];
  for (const source of sources) {
    try {
      const response = await fetch(source, { signal: AbortSignal.timeout(timeoutMs) });
      const bytes = Buffer.from(await response.arrayBuffer());
      const found = createHash('sha256').update(bytes).digest('hex');
      if (found === sha256) return bytes;
      failures.push(`${source}: status ${response.status}, SHA-256 ${found}`);
    } catch (error) {
      failures.push(`${source}: ${(error as Error).message}`);
    }
  }
  throw new Error(`etcd is not available:\n${failures.join('\n')}`);
}

/** Returns the directory of the program. */
async function laterEtcd(): Promise<string> {
  const directory = resolve('.ucloud/cache', name.replace('.deb', ''));
  const programs = join(directory, 'usr/bin');
  if (existsSync(join(programs, 'etcd'))) return programs;
  console.log(`fetching ${name} from Debian 13`);
  const partial = `${directory}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  const file = join(partial, name);
  writeFileSync(file, await download());
  await run('dpkg-deb', ['-x', file, partial]);
  rmSync(file);
  rmSync(directory, { recursive: true, force: true });
  renameSync(partial, directory);
  return programs;
}

const programs = await laterEtcd();
const environment = { ...process.env, PATH: `${programs}:${process.env.PATH ?? ''}` };
const { stdout } = await run(join(programs, 'etcd'), ['--version']);
console.log(stdout.split('\n')[0]);
const given = process.argv.slice(2);
const [first = ''] = given;
const isProgram = first.endsWith('.ts') && !readFileSync(first, 'utf8').includes("from 'tap'");
const words = isProgram ? given : ['test/run.ts', ...(given.length > 0 ? given : tests)];
const child = spawn(process.execPath, words, { stdio: 'inherit', env: environment });
child.once('close', (code) => {
  process.exitCode = code ?? 1;
});
