/** Public requests cost little, from any number of networks, and take nothing from projects. */
import { mkdirSync, readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { head, RawConnection } from '../support/hostile-tenant.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 2 ** 20;

t.test('documents that many strangers do not read take no memory, and nothing from projects', async (t) => {
  const test = await startTestApi(t, { listen: { host: '127.0.0.1', port: 0 }, limits: { unread: 4 * MiB } });
  const member = await test.member(test.project);
  const state = `{"version":4,"serial":1,"lineage":"a","x":"${'x'.repeat(24 * MiB)}"}`;
  await member.expect(200, 'POST', '/v1/terraform-states/s', state);
  await test.client(undefined).expect(200, 'GET', '/docs/reference.js');
  const before = process.memoryUsage().arrayBuffers;
  /** Reads the beginning of the answer, and no more. */
  const ask = (path: string, from: string, token?: string) => {
    const connection = new RawConnection(test.url, { from }).send(head('GET', path, token));
    connection.socket.once('data', () => connection.socket.pause());
    return connection;
  };
  const strangers = Array.from({ length: 60 }, (_, i) => ask('/docs/reference.js', `127.0.1.${i + 1}`));
  const unread = ask('/v1/terraform-states/s', '127.0.0.1', member.token);
  t.teardown(() => [...strangers, unread].forEach((connection) => void connection.end()));
  await until('all answers have begun', () => [...strangers, unread].every(({ bytes }) => bytes > 0));
  const taken = (process.memoryUsage().arrayBuffers - before) / MiB;
  t.ok(taken < 60, `${taken.toFixed(0)} MiB are taken`);
  t.match(await member.request('GET', '/v1/vms'), { status: 200 }, 'a project that has one answer unread is served');
  t.match(await test.client(undefined).request('GET', '/healthz'), { status: 200 });
});

t.test('HEAD of a large file reads nothing of it', async (t) => {
  const root = temporaryDirectory(t);
  const directory = join(root, 'providers', 'ucloud', 'ucloud');
  mkdirSync(directory, { recursive: true });
  const name = 'terraform-provider-ucloud_1.0.0';
  const archive = `${name}_linux_amd64.zip`;
  writeFileSync(join(directory, `${name}_SHA256SUMS`), `${'ab'.repeat(32)}  ${archive}\n`);
  writeFileSync(join(directory, `${name}_SHA256SUMS.sig`), 'signature');
  writeFileSync(join(directory, `${name}_manifest.json`), '{"version":1,"metadata":{"protocol_versions":["6.0"]}}');
  writeFileSync(
    join(directory, '0123456789ABCDEF0123456789ABCDEF01234567.asc'),
    '-----BEGIN PGP PUBLIC KEY BLOCK-----',
  );
  writeFileSync(join(directory, archive), '');
  truncateSync(join(directory, archive), 256 * MiB);
  const test = await startTestApi(t, { providerDirectory: root });
  /** Whether this process, in which the server runs, has the archive open. */
  const isOpen = () =>
    readdirSync('/proc/self/fd').some((fd) => {
      try {
        return readlinkSync(join('/proc/self/fd', fd)).endsWith(archive);
      } catch {
        return false;
      }
    });
  for (let i = 0; i < 4; i++) {
    const path = `/terraform/files/ucloud/ucloud/${archive}`;
    const answer = await new RawConnection(test.url).send(head('HEAD', path, undefined, ['Connection: close'])).toEnd();
    t.match(answer, /^HTTP\/1.1 200 .*\r\n\r\n$/s);
    t.match(answer, new RegExp(`content-length: ${256 * MiB}\r\n`, 'i'));
    t.notOk(isOpen());
  }
});
