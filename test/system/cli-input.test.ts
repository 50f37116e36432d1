/** Options of the `ucloud` command with a real API: the command sends valid input completely, and refuses other input. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { runUcloud } from '../support/cli.ts';
import { type GatewayRequest, startGateway } from '../support/gateway.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('options of the command', async (t) => {
  const api = await startTestApi(t);
  const sent: GatewayRequest[] = [];
  const gateway = await startGateway(
    api.url,
    {
      decide(request) {
        sent.push(request);
        return 'pass';
      },
    },
    t,
  );
  const directory = temporaryDirectory(t);
  const path = (name: string) => join(directory, name);
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(path(name), content);
    return `@${path(name)}`;
  };
  const environment = {
    UCLOUD_CREDENTIALS: path('none.json'),
    UCLOUD_ENDPOINT: gateway.url,
    UCLOUD_TOKEN: api.operatorToken,
    UCLOUD_PROJECT: api.project,
  };
  const ucloud = (args: readonly string[], typed = '') => runUcloud([...args], environment, typed);
  const json = async (args: readonly string[], typed = '') => {
    const { code, out, err } = await ucloud([...args, '--json'], typed);
    t.equal(code, 0, `${args.join(' ')}\n${err}`);
    return JSON.parse(out);
  };
  /** Nothing is sent that could change anything. */
  const refused = async (args: readonly string[], said: RegExp, typed = '') => {
    const before = sent.length;
    const { code, out, err } = await ucloud(args, typed);
    t.match({ code, out, err }, { code: 1, out: '', err: said }, args.join(' '));
    t.notMatch(err, /\n\s+at /, 'no stack');
    t.strictSame(sent.slice(before), [], `${args.join(' ')}: nothing is sent`);
  };
  await json(['project', 'create', '--name', 'f12', '--quota', 'vms=3,cpus=4', '--labels', 'env=test']);
  const project = async () => (await api.operator.list('projects', '?name=f12')).items[0];

  await t.test('a part without "=" drops no limit and no label', async (t) => {
    const update = ['project', 'update', 'f12'];
    await Promise.all([
      refused([...update, '--quota', 'vms'], /--quota: "vms" must be key=value/),
      refused([...update, '--labels', 'tier,env=prod'], /--labels: "tier" must be key=value/),
      refused([...update, '--labels', ''], /--labels: is empty; \{\} is the empty map/),
      refused([...update, '--labels', 'a=1', '--labels', 'a=2'], /--labels: "a" is given twice/),
      refused([...update, '--quota', '{"vms":1e999}'], /--quota: .* cannot be sent exactly/),
      refused([...update, '--quota', 'vms=1e999'], /--quota\.vms: "1e999" is not a whole number/),
      refused([...update, '--name', 'a', '--name', 'b'], /--name: is given 2 times/),
      refused([...update, '--body', path('none'), '--name', 'a'], /--body is the whole body.*--name/),
      refused(['vm', 'create', '--name', 'x', '--ssh-keys', 'a,,b'], /--ssh-keys: "a,,b" has an empty item/),
      refused(['vm', 'update', 'x', '--cpus', '1e999'], /--cpus: "1e999" is not a whole number/),
      refused(['vm', 'list', '--limit', 'many'], /--limit: "many" is not a whole number/),
      refused(['vm', 'list', '--limit', '0'], /--limit/),
    ]);
    t.match(await project(), { quota: { vms: 3, cpus: 4 }, labels: { env: 'test' } }, 'all is as it was');
  });

  await t.test('an empty variable of a script names no object, and an update needs a change', async () => {
    const none = /"\s*" is not an id or name/;
    await Promise.all([
      refused(['vm', 'get', ''], none),
      refused(['vm', 'delete', ' ', '--wait'], none),
      refused(['vm', 'list', '--project', ''], none),
      refused(['project', 'update', ''], /no option gives a change/),
      refused(['vm', 'delete', 'a', '', '--project', ''], none),
    ]);
  });

  await t.test('an error of the API names the option, and of a file the place in it', async (t) => {
    const errorOf = async (...args: string[]) => (await ucloud(args)).err;
    const labels = '{"example.net/a b": "x"}';
    const told = await errorOf('network', 'create', '--name', 'N', '--mtu', '1', '--labels', labels);
    for (const option of ['--labels.example.net/a b: ', '--mtu: ', '--name: ', '--prefix: is required']) {
      t.match(told, `  ${option}`);
    }
    t.match(await errorOf('project', 'update', 'f12', '--quota', 'vms=-1'), '  --quota.vms: must be >= 0');
    t.match(await errorOf('vm', 'list', '--page-token', 'x'), '  --page-token: must be');
    const body = path('body.json');
    writeFileSync(body, '{"name": "N"}');
    t.match(await errorOf('network', 'create', '--body', body), '  /name: must be');
  });

  await t.test('an endpoint or a token that cannot be one is told, and nothing is sent', async (t) => {
    const token = api.operatorToken;
    const host = new URL(gateway.url).host;
    const before = sent.length;
    const errorOf = async (changed: Record<string, string>) =>
      (await runUcloud(['vm', 'list'], { ...environment, ...changed })).err;
    const told = (endpoint: string) => errorOf({ UCLOUD_ENDPOINT: endpoint });
    t.match(await told('localhost:7780'), 'The endpoint "localhost:7780" must be a URL');
    t.match(await told('mailto:a@b.example'), 'must be a URL');
    t.match(await told(`${gateway.url}/v1`), `must not have a path: write ${gateway.url}`);
    t.match(await told(`${gateway.url}/?x=1`), `must not have a query or a fragment: write ${gateway.url}`);
    const named = await told(`http://me:secret@${host}`);
    t.match(named, 'must not have a user name or a password');
    t.notMatch(named, /secret@/, 'the password is not repeated');
    t.match(
      await told(`https://${host}`),
      'does not answer in TLS: check whether the endpoint must begin with http://',
    );
    for (const wrong of [`Bearer ${token}`, `${token}\n${token}`, 'tökèn\u200b']) {
      const error = await errorOf({ UCLOUD_TOKEN: wrong });
      t.match(error, 'The token must not contain blanks, line ends');
      t.notMatch(error, token.slice(-20), 'the token is not repeated');
    }
    t.equal(sent.length, before);
  });

  await t.test('a map is written, added to and cleared on purpose', async (t) => {
    const update = (...args: string[]) => json(['project', 'update', 'f12', ...args]);
    t.strictSame((await update('--labels', 'a=1,b=', '--labels', 'c=3')).labels, { a: '1', b: '', c: '3' });
    t.strictSame((await update('--quota', 'memory=1GiB')).quota, { memory: '1GiB' });
    t.strictSame((await update('--labels', '{}')).labels, {});
    t.strictSame((await update('--quota', 'null')).quota, {});
    t.strictSame((await update('--labels', file('labels.json', '{"a": "1"}\n'))).labels, { a: '1' });
    t.equal((await update('--description', 'a,b=c\\d @x')).description, 'a,b=c\\d @x', 'text stays as it is');
  });

  await t.test('text comes from files and from standard input', async (t) => {
    const key = await json([
      'ssh-key',
      'create',
      '--name',
      'ops',
      '--public-key',
      file('id.pub', `${testPublicKey}\n`),
    ]);
    t.equal(key.public_key, testPublicKey, 'without the line end that such files have');
    const update = ['ssh-key', 'update', 'ops', '--public-key'];
    t.equal((await json([...update, '@-'], `${testPublicKey} piped\n`)).public_key, `${testPublicKey} piped`);
    const twice = ['vm', 'create', '--name', 'x', '--user-data', '@-', '--labels', '@-'];
    await Promise.all([
      refused(
        [...update, file('id', '-----BEGIN OPENSSH PRIVATE KEY-----\nx\n')],
        /--public-key: .*\/id must be one line/,
      ),
      refused([...update, '@'], /--public-key: the name of a file must follow @/),
      refused([...update, '@/none'], /--public-key: ENOENT: .*\/none/),
      refused([...update, '@/dev/zero'], /--public-key: .*is larger than/),
      refused([...update, file('binary', Buffer.from([0xff, 0xfe]))], /--public-key: .*is not text in UTF-8/),
      refused(twice, /--labels: --user-data has read standard input|--user-data: --labels has read/, '{}'),
    ]);

    await api.operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/36' });
    const prefix = await api.operator.create('prefixes', { name: 'site', project: api.project });
    await api.operator.create('networks', { name: 'web', prefix: prefix.id, project: api.project });
    await api.operator.create('images', { name: 'demo', source: 'file:demo', project: api.project });
    const script = '#!/bin/sh\necho "Grüße"\n\n';
    const vm = [
      'vm',
      'create',
      '--name',
      'web',
      '--disk-size',
      '1GiB',
      '--image',
      'demo',
      '--interfaces',
      'web',
      '--ssh-keys',
      'ops',
    ];
    const made = await json([...vm, '--user-data', file('setup.sh', script)]);
    const { user_data } = (await api.operator.get('vms', made.id)) as unknown as { user_data: string };
    t.equal(user_data, script, 'user data is sent as it is, with its line ends');
    t.strictSame(made.ssh_keys, [key.id]);
  });

  await t.test('several objects in one call: each is tried, and failures are told for each', async (t) => {
    const { id } = (await api.operator.list('vms', '?name=web')).items[0] ?? { id: '' };
    const stopped = await ucloud(['vm', 'stop', 'web', 'nope', id]);
    t.match(stopped, { code: 1, err: /^nope: there is no VM .*"nope"\n1 of 3 failed\n$/ });
    t.equal(stopped.out.match(/^id: /gm)?.length, 1, 'by name and by id it is one object');
    t.match(await json(['vm', 'get', id]), { power_state: 'stopped' });
    t.match(await json(['vm', 'start', 'web']), { power_state: 'running' });
    for (const name of ['k1', 'k2'])
      await api.operator.create('ssh-keys', { name, project: api.project, public_key: testPublicKey });
    t.match(await json(['ssh-key', 'get', 'k1', 'k2']), { items: [{ name: 'k1' }, { name: 'k2' }] });
    t.match(await ucloud(['ssh-key', 'get', 'k1', 'k2']), { code: 0, out: /^name: k1$[\s\S]*^---$[\s\S]*^name: k2$/m });
    const removed = await ucloud(['ssh-key', 'delete', 'k1', 'ops', 'k2']);
    t.match(removed, { code: 1, out: '', err: /^ops: .*in_use[\s\S]*1 of 3 failed/ });
    t.same(
      (await api.operator.list('ssh-keys', `?project=${api.project}`)).items.map(({ name }) => name),
      ['ops'],
    );
  });

  await t.test('a name is looked for in the project that is named', async (t) => {
    const other = await api.operator.create('projects', { name: 'other' });
    await api.operator.create('ssh-keys', { name: 'ops', project: other.id, public_key: testPublicKey });
    t.equal((await json(['ssh-key', 'get', 'ops'])).project, api.project);
    t.equal((await json(['ssh-key', 'get', 'ops', '--project', 'other'])).project, other.id);
  });
});
