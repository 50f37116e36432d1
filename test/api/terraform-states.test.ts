/** States of Terraform: nobody overwrites another's, nothing is lost, nobody reads what is not theirs. */
import { createHash, randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { discardAbandoned } from '../../backend/api/terraform-state/content.ts';
import { newStateKeyFile, parseStateKeys } from '../../backend/api/terraform-state/keys.ts';
import { UcloudError } from '../../backend/contract/errors.ts';
import { keptVersions, type LockInfo, maxStateBytes } from '../../backend/contract/resources/terraform-states.ts';
import * as records from '../../backend/model/records/index.ts';
import { readAll } from '../../backend/store/collection.ts';
import { openEtcdStore } from '../../backend/store/etcd.ts';
import type { RecordKind } from '../../backend/store/record-kind.ts';
import type { Store } from '../../backend/store/store.ts';
import { ApiClient, contentOf, startTestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { needsEtcd, startEtcd } from '../support/etcd.ts';
import { silentLogger as logger } from '../support/silent-logger.ts';
import { withStore } from '../support/stores.ts';

const lineage = 'c50de517-297e-9744-d66c-cfdc3af30d00';
const secret = 'correct-horse-battery-staple';

/** Spelled as no serializer of ours would, so that it shows when it is not given back as it came. */
const state = (serial: number, more = '', of = lineage): string =>
  `{ "version":4,\n\t"serial": ${serial}, "lineage": "${of}", "terraform_version": "1.11.4",\n  "exact": 12345678901234567890.10, "password": "${secret}"${more} }\n`;
const lock = (ID: string): LockInfo => ({
  ID,
  Operation: 'OperationTypeApply',
  Info: '',
  Who: 'alice@laptop',
  Version: '1.11.4',
  Created: '2026-01-01T00:00:00.391060291Z',
  Path: '',
});
const md5 = (text: string): string => createHash('md5').update(text).digest('base64');

const base = '/v1/terraform-states';

/** The text of a state, byte for byte. */
async function textOf(client: ApiClient, path: string): Promise<string> {
  const response = await fetch(client.url + path, { headers: { authorization: `Bearer ${client.token}` } });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${path}: ${response.status} ${text}`);
  if (response.headers.get('content-md5') !== md5(text)) throw new Error(`${path}: the digest is of something else`);
  return text;
}

async function idsOf(store: Store, kind: RecordKind): Promise<string[]> {
  const ids: string[] = [];
  for await (const { id } of readAll(store, kind)) ids.push(id);
  return ids;
}

/** More than one chunk even when compressed. */
const big = (serial: number, bytes: number): string =>
  state(serial, `, "big": "${randomBytes(bytes).toString('base64')}"`);

async function lifeOfAState(t: Test, store: Store): Promise<void> {
  const test = await startTestApi(t, { store });
  const member = await test.member(test.project);
  const before = await contentOf(store);
  const url = `${base}/site`;
  const put = (text: string, query = '') => member.request('POST', url + query, text, { 'content-md5': md5(text) });

  t.match(await member.request('GET', url), { status: 404, body: { code: 'not_found' } });
  t.match(await member.request('POST', `${url}/lock`, lock('one')), { status: 200, body: { ID: 'one' } });
  t.equal((await member.request('POST', `${url}/lock`, lock('one'))).status, 200, 'an answer that got lost');
  t.equal((await member.request('GET', url)).status, 404, 'a lock alone is no state');
  t.match(await member.list('terraform-states'), {
    items: [{ name: 'site', project: test.project, lock: { Who: 'alice@laptop' }, version: undefined }],
  });

  t.match(
    await member.request('POST', `${url}/lock`, lock('two')),
    {
      status: 423,
      body: {
        code: 'state_locked',
        detail: /held by alice@laptop since 2026-01-01T00:00:00.391060291Z, OperationTypeApply/,
        ID: /^one \(held by alice@laptop/,
        Operation: 'OperationTypeApply',
        lock: lock('one'),
      },
    },
    'a second lock is told of the first, in the form that Terraform reads',
  );
  t.match(await put(state(1)), { status: 423, body: { code: 'state_locked' } }, 'a write without the lock');
  t.equal((await put(state(1), '?ID=two')).status, 423);
  t.equal((await put(state(1), '?ID=one')).status, 200);
  t.equal(await textOf(member, url), state(1));
  t.equal((await put(state(1), '?ID=one')).status, 200, 'an answer that got lost: the same again');
  t.equal((await member.request('DELETE', `${url}/lock`, lock('two'))).status, 423, "another's lock");
  t.equal((await member.request('DELETE', `${url}/lock`, lock('one'))).status, 200);
  t.equal((await member.request('DELETE', `${url}/lock`, lock('one'))).status, 200, 'an answer that got lost');
  t.match(
    await put(state(2), '?ID=one'),
    { status: 409, body: { code: 'invalid_state' } },
    'who has lost the lock does not write',
  );

  const large = big(2, 4_000_000);
  t.equal((await put(large)).status, 200);
  t.equal(await textOf(member, url), large, 'of many chunks');
  t.match(await put(state(1)), { status: 409, body: { code: 'stale_state', detail: /the serial is 1,/ } });
  t.match(await put(state(2)), { status: 409, body: { code: 'stale_state' } }, 'the same serial, something else in it');
  t.match(await put(state(9, '', 'other')), { status: 409, body: { code: 'stale_state', detail: /another config/ } });
  t.equal((await put(state(1), '?force=true')).status, 200, 'back to an earlier version, on purpose');
  t.equal(await textOf(member, url), state(1));
  t.match(await member.list('terraform-states/site/versions'), {
    items: [
      { version: 1, serial: 1, lineage, terraform_version: '1.11.4', size: state(1).length },
      { version: 2, serial: 2, size: large.length },
      { version: 3, serial: 1 },
    ],
  });
  t.equal(await textOf(member, `${url}/versions/2`), large);
  t.equal((await member.request('GET', `${url}/versions/4`)).status, 404);
  t.match((await member.list('terraform-states?name=site')).items, [{ version: 3, serial: 1, lock: undefined }]);

  for (const [key, value] of await contentOf(store)) t.notOk(value.includes(secret), `${key} hides it`);

  t.equal((await member.request('POST', `${url}/lock`, lock('three'))).status, 200);
  t.equal((await member.request('DELETE', url)).status, 423, 'what is locked is not deleted');
  t.equal((await member.request('DELETE', `${url}/lock`)).status, 200, 'a lock is broken');
  const { id } = (await member.list('terraform-states')).items[0] ?? { id: '' };
  const reasons = (await member.list('events', `?target=${id}`)).items.map(({ reason }) => reason);
  t.same(reasons, ['locked', 'written', 'unlocked', 'written', 'written', 'locked', 'lock_broken']);
  const audited = (await test.operator.list('audit-records', `?target=${id}`)).items.map(({ operation }) => operation);
  t.equal(audited.length, reasons.length, 'each change is audited');
  t.equal(audited.at(-1), 'terraform_state_unlock');
  t.equal((await member.request('DELETE', url)).status, 204);
  t.equal((await member.request('GET', url)).status, 404);
  t.equal((await member.request('POST', `${url}/lock`, lock('four'))).status, 200);
  t.equal((await member.request('DELETE', `${url}/lock?ID=four`)).status, 200);
  t.same(await contentOf(store), before, 'nothing is left, not even of a lock on nothing');
}

t.test('the life of a state on the embedded store', async (t) => lifeOfAState(t, await withStore(t)));

t.test('the life of a state on etcd', needsEtcd(), async (t) => {
  const server = await startEtcd(t);
  const store = await openEtcdStore(server.options);
  t.teardown(() => store.close());
  await lifeOfAState(t, store);
});

t.test('two servers, many clients', async (t) => {
  const store = await withStore(t);
  const stateKeys = parseStateKeys(newStateKeyFile());
  const test = await startTestApi(t, { store, stateKeys });
  const member = await test.member(test.project);
  const second = await startApi({ store: store.session(), stateKeys, logger, listen: { host: '::1', port: 0 } });
  t.teardown(() => second.close());
  const other = new ApiClient(second.url, member.token);

  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      (i % 2 ? member : other).request('POST', `${base}/shared/lock`, lock(`lock-${i}`)),
    ),
  );
  t.equal(answers.filter(({ status }) => status === 200).length, 1, 'one of many gets the lock');
  t.equal(answers.filter(({ status }) => status === 423).length, 39, 'and the others learn that it is held');
  await member.expect(200, 'DELETE', `${base}/shared/lock`);

  for (let serial = 1; serial <= 10; serial++) {
    await member.expect(200, 'POST', `${base}/shared`, state(serial));
    t.equal(await textOf(other, `${base}/shared`), state(serial), 'the other server has it at once');
  }
  const rivals = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      (i % 2 ? member : other).request('POST', `${base}/shared`, state(11, `, "rival": ${i}`)),
    ),
  );
  t.same(rivals.map(({ status }) => status).sort(), [200, ...Array(19).fill(409)], 'without locks, too, one wins');
  t.equal((await member.list('terraform-states/shared/versions')).items.length, 11);

  for (let serial = 12; serial <= keptVersions + 15; serial++) {
    await member.expect(200, 'POST', `${base}/shared`, state(serial));
  }
  const { items } = await member.list('terraform-states/shared/versions');
  t.match([items.length, items[0], items.at(-1)], [keptVersions, { version: 16 }, { version: keptVersions + 15 }]);
  t.equal((await idsOf(store, records.terraformStateChunks)).length, keptVersions, 'content goes with its version');
});

t.test('a state belongs to one project', async (t) => {
  const test = await startTestApi(t);
  const mine = await test.operator.create('projects', { name: 'mine' });
  const member = await test.member(mine.id);
  const viewer = await test.member(mine.id, 'viewer');
  const stranger = await test.member(test.project);
  await member.expect(200, 'POST', `${base}/site`, state(1));
  await stranger.expect(200, 'POST', `${base}/site`, state(1, ', "of": "stranger"'));
  t.equal(await textOf(member, `${base}/site`), state(1), 'the same name in another project is another state');
  t.equal(await textOf(test.operator, `${base}/site?project=${mine.id}`), state(1), 'an operator names the project');
  t.match(await test.operator.request('GET', `${base}/site`), {
    status: 400,
    body: { errors: [{ pointer: '#query/project' }] },
  });
  t.equal((await stranger.request('GET', `${base}/site?project=${mine.id}`)).status, 404);
  t.equal((await viewer.request('GET', `${base}/site`)).status, 403, 'states hold secrets');
  t.equal((await viewer.request('GET', `${base}/site/versions/1`)).status, 403);
  t.match(await viewer.list('terraform-states'), { items: [{ name: 'site', version: 1 }] });
  t.match(await test.operator.request('DELETE', `/v1/projects/${mine.id}`), {
    status: 409,
    body: { code: 'in_use', detail: /terraform state site/ },
  });

  const basic = (user: string, password: string | undefined) => ({
    authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
  });
  const nobody = test.client(undefined);
  t.equal((await nobody.request('GET', `${base}/site`, undefined, basic('any', member.token))).status, 200);
  t.equal((await nobody.request('GET', `${base}/site`, undefined, basic('', member.token))).status, 200);
  t.equal((await nobody.request('GET', `${base}/site`, undefined, basic('any', `${member.token}0`))).status, 401);
  t.equal((await nobody.request('GET', `${base}/site`, undefined, { authorization: 'Basic !' })).status, 401);
  t.equal((await nobody.request('GET', '/v1/vms', undefined, basic('any', member.token))).status, 401, 'only here');
});

t.test('bad input changes nothing', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  await member.expect(200, 'POST', `${base}/site`, state(1));
  const before = await contentOf(test.store);
  const cases: readonly (readonly [what: string, method: string, path: string, body: string, pointer: string])[] = [
    ['no body', 'POST', '/site', '', ''],
    ['no JSON', 'POST', '/site', '{"version":4', ''],
    ['an array', 'POST', '/site', '[]', ''],
    ['no serial', 'POST', '/site', `{"version":4,"lineage":"a"}`, '/serial'],
    ['a negative serial', 'POST', '/site', state(-1), '/serial'],
    ['a serial beyond all bounds', 'POST', '/site', state(2).replace('2,', '1e400,'), '/serial'],
    ['a lineage with a line break', 'POST', '/site', state(2, '', 'a\\nb'), '/lineage'],
    ['an unknown parameter', 'POST', '/site?Id=x', state(2), '#query/Id'],
    ['a name that climbs', 'POST', '/..%2Fother', state(2), '#path/name'],
    ['a lock without ID', 'POST', '/site/lock', '{"Who":"me"}', '/ID'],
    ['a lock with an ID for a terminal', 'POST', '/site/lock', '{"ID":"\\u001b[2J"}', '/ID'],
    ['a lock of no time', 'POST', '/site/lock', '{"ID":"a","Created":"yesterday"}', '/Created'],
    ['a lock with something else', 'POST', '/site/lock', '{"ID":"a","x":1}', '/x'],
    ['no version', 'GET', '/site/versions/latest', '', '#path/version'],
  ];
  for (const [what, method, path, body, pointer] of cases) {
    const answer = await member.request(method, base + path, method === 'GET' ? undefined : body);
    t.match(answer, { status: 400, body: { code: 'invalid_input', errors: [{ pointer }] } }, what);
  }
  const wrong = await member.request('POST', `${base}/site`, state(2), { 'content-md5': md5('something else') });
  t.match(wrong, { status: 400, body: { errors: [{ pointer: '#header/Content-MD5' }] } }, 'damaged on its way');
  const binary = await fetch(`${test.url}${base}/site`, {
    method: 'POST',
    headers: { authorization: `Bearer ${member.token}`, 'content-type': 'application/json' },
    body: new Uint8Array(Buffer.from(state(2).replace(secret, '\u00ff'), 'latin1')),
  });
  t.equal(binary.status, 400, 'what is not UTF-8');
  const most = state(2, `, "x": "${'x'.repeat(maxStateBytes)}"`);
  t.match(await member.request('POST', `${base}/site`, most), {
    status: 413,
    body: { code: 'payload_too_large', detail: /32MiB/ },
  });
  t.same(await contentOf(test.store), before);

  const deep = (depth: number) => state(2, `, "x": ${'['.repeat(depth)}${']'.repeat(depth)}`);
  for (const depth of [1000, 5_000_000]) {
    const answer = await member.request('POST', `${base}/site`, deep(depth));
    t.match(answer, { status: 400, body: { errors: [{ pointer: '', detail: /nested more than 1000 deep/ }] } });
  }
  await member.expect(200, 'POST', `${base}/site`, deep(999));
  t.equal(await textOf(member, `${base}/site`), deep(999), 'deeper than any state of Terraform is');
});

t.test('a server without the key', async (t) => {
  const store = await withStore(t);
  const first = parseStateKeys(newStateKeyFile());
  const file = newStateKeyFile();
  const test = await startTestApi(t, { store, stateKeys: first });
  const member = await test.member(test.project);
  await member.expect(200, 'POST', `${base}/site`, state(1));
  const listen = { host: '::1', port: 0 };
  const without = await startApi({ store: store.session(), logger, listen });
  t.teardown(() => without.close());
  const strange = await startApi({ store: store.session(), logger, listen, stateKeys: parseStateKeys(file) });
  t.teardown(() => strange.close());
  const rotated = { current: parseStateKeys(file).current, find: first.find };
  const next = await startApi({ store: store.session(), logger, listen, stateKeys: rotated });
  t.teardown(() => next.close());
  const expected = { status: 501, body: { code: 'not_configured', detail: /--state-key/ } };
  t.match(await new ApiClient(without.url, member.token).request('GET', `${base}/site`), expected);
  t.match(await new ApiClient(without.url, member.token).request('POST', `${base}/site`, state(2)), expected);
  t.match(await new ApiClient(strange.url, member.token).request('GET', `${base}/site`), expected);
  t.equal(await textOf(new ApiClient(next.url, member.token), `${base}/site`), state(1), 'after a change of keys');
});

t.test('killed at every write', async (t) => {
  const store = await withStore(t);
  const stateKeys = parseStateKeys(newStateKeyFile());
  let left = Number.POSITIVE_INFINITY;
  let heard = true;
  const dead = () => new UcloudError('store_unavailable', 'killed here');
  const mortal: Store = {
    ...bound(store.session()),
    // Dies at the chosen commit, before it or before its answer is heard; from then on nothing goes any more.
    async commit(commit) {
      left--;
      if (left < 0 || (left === 0 && !heard)) throw dead();
      const result = await store.commit(commit);
      if (left === 0) throw dead();
      return result;
    },
  };
  const test = await startTestApi(t, { store: mortal, stateKeys });
  const member = await test.member(test.project);
  const url = `${base}/site`;
  let serial = 1;
  let latest = big(serial, 1_500_000);
  await member.expect(200, 'POST', url, latest);
  let completed = 0;
  for (const late of [false, true]) {
    for (let at = 1; ; at++) {
      const next = big(++serial, 1_500_000);
      heard = late;
      left = at;
      const { status } = await member.request('POST', url, next);
      const survived = left > 0;
      left = Number.POSITIVE_INFINITY;
      const found = await textOf(member, url);
      t.ok(found === next || found === latest, `killed at ${at}: the state is whole, old or new`);
      if (status === 200) t.equal(found, next, 'what was acknowledged is there');
      await member.expect(200, 'POST', url, next);
      t.equal(await textOf(member, url), next, 'and sent again it is written');
      latest = next;
      if (!survived) continue;
      completed++;
      t.ok(at > 3, `${at - 1} writes`);
      break;
    }
  }
  t.equal(completed, 2);
  t.equal((await member.list('terraform-states/site/versions')).items.length, serial, 'each is one version');

  const referred = new Set<string>();
  for await (const { value } of readAll(store, records.terraformStateVersions)) referred.add(value.content.id);
  t.ok((await idsOf(store, records.terraformStateUploads)).length > 0, 'some uploads were left');
  const { signal } = new AbortController();
  await discardAbandoned(store, new Date(), signal);
  t.ok((await idsOf(store, records.terraformStateUploads)).length > 0, 'they may still go on');
  await discardAbandoned(store, new Date(Date.now() + 2 * 3600_000), signal);
  t.same(await idsOf(store, records.terraformStateUploads), []);
  const contents = new Set((await idsOf(store, records.terraformStateChunks)).map((id) => id.split('/')[0] ?? ''));
  t.same([...contents].sort(), [...referred].sort(), 'what is left belongs to a version');
  t.equal(await textOf(member, url), latest);
});
