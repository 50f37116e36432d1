/** Other users of the machine learn nothing from the files of ucloud. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { writeCredentials } from '../../backend/cli/credentials.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { until, within } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/stores.ts';

const command = resolve('backend/cli/ucloud');
const root = process.getuid?.() === 0;

interface Up {
  readonly child: ChildProcess;
  readonly credentials: string;
  /** The text of both outputs. */
  said(): string;
  /** Ends it and gives its exit code. */
  end(): Promise<number | null>;
}

/** `ucloud up` of a shell that lets everybody read and write what it makes. */
function up(t: Test, data: string): Up {
  const credentials = join(data, '..', 'home', 'credentials.json');
  const args = ['up', '--data', data, '--hypervisor', 'simulated', '--listen', '[::1]:0', '--credentials', credentials];
  const child = spawn('sh', ['-c', 'umask 000; exec "$0" "$@"', command, ...args], { stdio: 'pipe' });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => {
      text += data.toString();
    });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    child,
    credentials,
    said: () => text,
    end: async () => {
      child.kill('SIGTERM');
      return ((await ended) as [number | null])[0];
    },
  };
}

const isUp = (process: Up) => until('it is up', () => process.said().includes('ucloud is up'));

/** Everything below the directory, with its permissions. */
function permissions(directory: string): [string, number][] {
  return [
    [directory, lstatSync(directory).mode & 0o777],
    ...readdirSync(directory).flatMap((name): [string, number][] => {
      const path = join(directory, name);
      const stats = lstatSync(path);
      return stats.isDirectory() ? permissions(path) : [[path, stats.mode & 0o777]];
    }),
  ];
}

const open = (directory: string) => permissions(directory).filter(([, mode]) => (mode & 0o077) !== 0);

t.test('every file of a new data directory is its owner’s alone, whatever the umask', async (t) => {
  const data = join(temporaryDirectory(t), 'data');
  const cloud = up(t, data);
  await isUp(cloud);
  const names = permissions(data).map(([path]) => path.slice(data.length + 1));
  for (const name of ['store.db', 'state.key', 'host/host-id', 'images', 'files']) t.ok(names.includes(name), name);
  t.strictSame(open(data), [], 'while it runs, the files of the database included');
  t.strictSame(open(join(cloud.credentials, '..')), [], 'credentials too');
  t.equal(await cloud.end(), 0);
  t.strictSame(open(data), []);
});

t.test('a data directory that was open before is closed, and that is said', async (t) => {
  const data = join(temporaryDirectory(t), 'data');
  const first = up(t, data);
  await isUp(first);
  first.child.kill('SIGKILL');
  await once(first.child, 'exit');
  for (const [path, mode] of permissions(data)) chmodSync(path, mode | 0o055);
  chmodSync(first.credentials, 0o644);
  // A file of another user, put there by a link, stays theirs.
  const foreign = join(data, '..', 'foreign');
  writeFileSync(foreign, '', { mode: 0o644 });
  chmodSync(foreign, 0o644);
  symlinkSync(foreign, join(data, 'link'));
  const second = up(t, data);
  await isUp(second);
  t.strictSame(
    open(data).filter(([path]) => !/\/link$|\/(images|files)\//.test(path)),
    [],
  );
  t.equal(lstatSync(foreign).mode & 0o777, 0o644);
  t.equal(lstatSync(second.credentials).mode & 0o777, 0o600);
  t.match(second.said(), /other users could read files of the data directory/);
  t.match(second.said(), /"paths":\["[^\]]*store\.db"/);
  t.match(second.said(), /other users could read the credentials/);
  t.equal(await second.end(), 0);
});

t.test('files of another user are refused, by name', { skip: root ? false : 'needs root' }, async (t) => {
  const directory = temporaryDirectory(t);
  for (const name of ['.', 'store.db', 'state.key', 'host']) {
    const data = join(directory, name === '.' ? 'own' : name, 'data');
    mkdirSync(data, { recursive: true });
    if (name === 'host') mkdirSync(join(data, name));
    else if (name !== '.') writeFileSync(join(data, name), '');
    chownSync(join(data, name), 12_345, 12_345);
    const cloud = up(t, data);
    const [code] = (await within('its end', once(cloud.child, 'exit'), 60)) as [number];
    t.equal(code, 1, name);
    t.match(cloud.said(), `${join(data, name)} belongs to the user with the id 12345`, name);
    t.notMatch(cloud.said(), /\n\s+at /, 'no stack');
  }
});

t.test('a database elsewhere is its owner’s alone, too, and stays locked', async (t) => {
  const path = join(temporaryDirectory(t), 'store.db');
  const before = process.umask(0);
  t.teardown(() => process.umask(before));
  writeFileSync(path, '', { mode: 0o666 });
  const store = await openEmbeddedStore({ path });
  t.teardown(() => store.close());
  await store.commit({ write: [{ put: 'a', value: '1' }] });
  for (const name of [path, `${path}-wal`]) t.equal(lstatSync(name).mode & 0o777, 0o600, name);
  await t.rejects(openEmbeddedStore({ path }), { message: /in use by another process/ });
});

t.test('credentials that are kept aside are closed with the new ones', async (t) => {
  const path = join(temporaryDirectory(t), 'credentials.json');
  writeFileSync(path, '{"token": "old"}');
  chmodSync(path, 0o644);
  const kept = writeCredentials(path, { endpoint: 'https://cloud.example.net', token: 'new' });
  for (const file of [path, kept ?? '']) t.equal(lstatSync(file).mode & 0o777, 0o600, file);
});
