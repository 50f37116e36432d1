/** The output of the `ucloud` command: data to standard output, all else to standard error. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { type Ended, RunningUcloud, runUcloud, ucloudCommand } from '../support/cli.ts';
import { until } from '../support/eventually.ts';
import { type GatewayRequest, type RequestOutcome, startGateway } from '../support/gateway.ts';
import { json, scriptedApi } from '../support/scripted-api.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('the output of commands', async (t) => {
  const api = await startTestApi(t);
  const environment = {
    UCLOUD_CREDENTIALS: join(temporaryDirectory(t), 'none.json'),
    UCLOUD_ENDPOINT: api.url,
    UCLOUD_TOKEN: api.operatorToken,
    UCLOUD_PROJECT: api.project,
  };
  const ucloud = (...args: string[]) => runUcloud(args, environment);
  /** In a shell, where standard output can go elsewhere. */
  const shell = (script: string): Promise<Ended> =>
    new Promise((resolved) => {
      const env = { ...process.env, ...environment, ucloud: ucloudCommand };
      const child = execFile('bash', ['-c', script], { env }, (_error, out, err) =>
        resolved({ code: child.exitCode ?? -1, out, err }),
      );
    });
  const key = (name: string) =>
    api.operator.create('ssh-keys', { name, project: api.project, public_key: testPublicKey });

  await t.test('an empty list prints no data', async (t) => {
    t.match(await ucloud('ssh-key', 'list'), { code: 0, out: '', err: '(none)\n' });
    const { out } = await ucloud('ssh-key', 'list', '--json');
    t.strictSame(JSON.parse(out).items, []);
  });

  await t.test('a list shows all, or says that it does not', async (t) => {
    const names = Array.from({ length: 120 }, (_none, i) => `k${String(i).padStart(3, '0')}`);
    for (const name of names) await key(name);
    const all = await ucloud('ssh-key', 'list');
    t.match(all, { code: 0, err: '' });
    t.equal(all.out.split('\n').filter((line) => /^k\d{3} *$/.test(line)).length, 120);
    const some = await ucloud('ssh-key', 'list', '--limit', '110');
    t.equal(some.out.trimEnd().split('\n').length, 111, 'a title and as many as were asked for');
    t.match(some.err, /^The list has more than these 110 items: .*--page-token (\S+)/);
    const token = /--page-token (\S+)/.exec(some.err)?.[1] ?? '';
    const rest = JSON.parse((await ucloud('ssh-key', 'list', '--page-token', token, '--json')).out);
    t.equal(rest.items.length, 10);
    const asJson = JSON.parse((await ucloud('ssh-key', 'list', '--limit', '5', '--json')).out);
    t.match(asJson, { items: { length: 5 }, next_page_token: /./, revision: Number });
    const events = await ucloud('event', 'list');
    t.equal(events.out.trimEnd().split('\n').length, 101, 'of a log the latest 100');
    t.match(events.err, /The list has more than these 100 items: .*--all/);
    t.equal((await ucloud('event', 'list', '--all')).err, '');
    t.match(await ucloud('event', 'list', '--all', '--limit', '3'), { code: 1, err: /cannot be combined/ });
  });

  await t.test('tables have names, and ids where they are wanted', async (t) => {
    const pool = await api.operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/36' });
    const prefix = await api.operator.create('prefixes', { name: 'site', project: api.project });
    const table = await ucloud('prefix', 'list');
    t.match(table.out, /^NAME +CIDR +POOL\nsite +2001:db8::\/56 +main\n$/);
    const wide = await ucloud('prefix', 'list', '--wide');
    t.match(wide.out, new RegExp(`^ID +NAME +PROJECT +CIDR +POOL\n${prefix.id} .* ${pool.id}\n$`));
    const { out } = await ucloud('prefix', 'get', 'site');
    t.match(out, new RegExp(`^id: ${prefix.id}\n`), 'the id comes first');
    t.match(out, new RegExp(`^pool: ${pool.id}  # main$`, 'm'));
  });

  await t.test(
    'a list of tokens shows their expiry, and a list of audit records the token of each change',
    async (t) => {
      const expires_at = '2099-01-01T00:00:00.000Z';
      const token = await api.operator.create('tokens', { name: 'ci', project: api.project, expires_at });
      t.match((await ucloud('token', 'list', '--name', 'ci')).out, new RegExp(`EXPIRES\nci .*${expires_at}\n$`));
      const audit = await ucloud('audit-record', 'list', '--target', token.id);
      t.match(audit.out, /^ID +AT +TOKEN +TARGET +OPERATION\n\S+ +\S+ +\S+ +ci +token_create\n$/);
    },
  );

  await t.test('nested values are shown on lines of their own', async (t) => {
    await api.operator.update('projects', api.project, { labels: { 'example.net/team': 'web' } });
    t.match((await ucloud('project', 'get', 'default')).out, /^labels:\n {2}example.net\/team: web$/m);
  });

  await t.test('output that cannot be written is an error', async (t) => {
    const commands = ['ssh-key list', 'ssh-key list --json', 'ssh-key get k001', '--help', 'vm --help'];
    const ended = await Promise.all(commands.map((args) => shell(`"$ucloud" ${args} > /dev/full`)));
    for (const [i, { code, err }] of ended.entries()) {
      t.match({ code, err }, { code: 1, err: /^ucloud: standard output cannot be written: ENOSPC/ }, commands[i] ?? '');
      t.notMatch(err, /\n\s+at /, commands[i] ?? '');
    }
  });

  await t.test('a reader that has gone ends it quietly', async (t) => {
    const { out, err } = await shell('"$ucloud" ssh-key list --json | true; echo $PIPESTATUS');
    t.strictSame({ out, err }, { out: '141\n', err: '' });
  });

  await t.test('escape sequences of others do not reach the terminal', async (t) => {
    const evil = '\u001b]0;owned\u0007\u009b31m\u202e';
    const item = {
      ...{ id: 'vm-0123456789abcdef', name: `web${evil}`, description: evil, labels: { [evil]: evil }, revision: 1 },
      status: { phase: 'error', reason: evil, message: `broken\n${evil}` },
    };
    const { endpoint } = await scriptedApi(
      t,
      json(200, item),
      json(200, { items: [item], revision: 1 }),
      json(409, {
        code: 'in_use',
        title: evil,
        detail: evil,
        errors: [{ pointer: evil, detail: evil }],
      }),
    );
    const at = { ...environment, UCLOUD_ENDPOINT: endpoint, UCLOUD_PROJECT: undefined };
    const said = [
      await runUcloud(['vm', 'get', 'vm-0123456789abcdef'], at),
      await runUcloud(['vm', 'list', '--wide'], at),
      await runUcloud(['vm', 'list', '--json'], at),
      await runUcloud(['vm', 'delete', 'vm-0123456789abcdef'], at),
    ];
    for (const { out, err } of said) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is for
      t.notMatch(out + err, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
    }
    t.match(said[0]?.out, /^ {2}reason: "\\u001b\]0;owned/m);
  });
});

t.test('an interrupted command describes the action that continues', async (t) => {
  const api = await startTestApi(t);
  const seen: string[] = [];
  let held = false;
  const decide = ({ method, path }: GatewayRequest): RequestOutcome => {
    seen.push(`${method} ${path}`);
    return method === 'POST' && held ? 'handled' : 'pass';
  };
  const gateway = await startGateway(api.url, { decide }, t);
  const environment = {
    UCLOUD_CREDENTIALS: join(temporaryDirectory(t), 'none.json'),
    UCLOUD_ENDPOINT: gateway.url,
    UCLOUD_TOKEN: api.operatorToken,
    UCLOUD_PROJECT: api.project,
  };
  await api.operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/36' });
  const prefix = await api.operator.create('prefixes', { name: 'site', project: api.project });
  await api.operator.create('networks', { name: 'web', prefix: prefix.id, project: api.project });
  await api.operator.create('images', { name: 'demo', source: 'file:demo', project: api.project });
  const create = (name: string) => [
    'vm',
    'create',
    '--name',
    name,
    '--disk-size',
    '1GiB',
    '--image',
    'demo',
    '--interfaces',
    'web',
    '--wait',
    '--json',
  ];
  const vm = async (name: string) => (await api.operator.list('vms', `?name=${name}`)).items[0];

  /** Ends the command when it has sent such a request. */
  const interrupted = async (args: readonly string[], sent: RegExp, signal: NodeJS.Signals) => {
    const running = new RunningUcloud(args, environment);
    await until('the request', () => seen.some((line) => sent.test(line)), 60);
    seen.length = 0;
    return running.end(signal);
  };

  for (const [name, signal, code] of [
    ['one', 'SIGINT', 130],
    ['two', 'SIGTERM', 143],
  ] as const) {
    const ended = await interrupted(create(name), /^GET \/v1\/vms\/vm-.*after=/, signal);
    const { id } = (await vm(name)) ?? { id: '' };
    t.match(ended, { code, out: '', err: new RegExp(`VM ${name} \\(${id}\\) has been created`) });
    t.match(ended.err, new RegExp(`ucloud vm get ${id}\n.*ucloud vm delete ${id}\n$`));
  }
  const { id } = (await vm('one')) ?? { id: '' };
  const update = ['vm', 'update', 'one', 'two', '--description', 'x', '--wait'];
  const changed = await interrupted(update, /^GET \/v1\/vms\/vm-.*after=/, 'SIGINT');
  t.match(changed, { code: 130, err: new RegExp(`VM one \\(${id}\\) has been changed.*\n.*ucloud vm get ${id}\n`) });
  held = true;
  const unanswered = await interrupted(create('three'), /^POST \/v1\/vms/, 'SIGINT');
  t.match(unanswered, {
    code: 130,
    err: /has not answered.*is unknown: Create a vm.\n.*ucloud vm list --name three\n$/,
  });
});
