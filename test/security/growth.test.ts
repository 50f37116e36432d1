/** No repeated action of a tenant lets data grow without bound: the quota counts the data, or the oldest part is removed. */

import { randomBytes } from 'node:crypto';
import t from 'tap';
import { boundTrails } from '../../backend/api/jobs/trails.ts';
import { openApiMirror } from '../../backend/api/read-model/mirror.ts';
import { resources } from '../../backend/api/resources/index.ts';
import { ensureProject } from '../../backend/api/tokens/first-operator-token.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { idFrom, newTimeOrderedId } from '../../backend/model/ids.ts';
import { beyond, beyondAudit, keptEvents, keptOperations } from '../../backend/model/quota/trails.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import type { Store, Write } from '../../backend/store/store.ts';
import { contentOf, startTestApi } from '../support/api.ts';
import { eventually } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { withStore } from '../support/stores.ts';

const writeAll = async (store: Store, writes: readonly Write[]) => {
  for (let start = 0; start < writes.length; start += 20) {
    await store.commit({ write: writes.slice(start, start + 20) });
  }
};
async function keysBelow(store: Store, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.list(prefix, { limit: 1000, ...(after === undefined ? {} : { after }) });
    keys.push(...page.entries.map(({ key }) => key));
    after = page.entries.at(-1)?.key;
    if (!page.more) return keys;
  }
}
const timeOf = (second: number): Date => new Date(Date.now() - 86_400_000 + second * 1000);

t.test('events, operations, answers and audit of a project are bounded, whatever others have', async (t) => {
  const store = await withStore(t);
  const [noisy, quiet] = [
    idFrom('project', 'prj-0000000000000001'),
    idFrom('project', 'prj-0000000000000002'),
  ] as const;
  const event = (project: Id<'project'>, second: number): Write => {
    const id = newTimeOrderedId('event', timeOf(second));
    const [severity, target] = ['info', 'vm-0123456789abcdef'] as const;
    const value = { id, project, at: timeOf(second).toISOString(), target, severity, reason: 'x', message: 'x' };
    return put(records.events, id, value);
  };
  const operation = (second: number, ended: boolean): Write => {
    const id = newTimeOrderedId('operation', timeOf(second));
    const at = timeOf(second).toISOString();
    return put(records.operations, id, {
      id,
      project: noisy,
      kind: 'vm_reboot',
      target: 'vm-0123456789abcdef',
      options: {},
      state: ended ? 'succeeded' : 'running',
      progress: 50,
      ...(ended ? { finished_at: at } : {}),
      created_at: at,
      updated_at: at,
    });
  };
  const answer = (token: string, second: number, bytes: number): Write =>
    put(records.idempotency, `${token}/${second}`, {
      request: 'x',
      status: 201,
      answer: 'a'.repeat(bytes),
      at: timeOf(second + 3600).toISOString(),
    });
  const audit = (project: Id<'project'>, second: number): Write => {
    const id = newTimeOrderedId('audit_record', timeOf(second));
    const at = timeOf(second).toISOString();
    const [token, operation, target] = [
      idFrom('token', 'tok-0000000000000001'),
      'vm_update',
      'vm-0123456789abcdef',
    ] as const;
    return put(records.auditRecords, id, { id, at, token, project, operation, target, request_id: 'r', source: '::' });
  };
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);
  const [first] = [event(noisy, 0)];
  const oldest = 'put' in first ? first.put : '';
  await writeAll(store, [first, event(quiet, 0), operation(0, false)]);
  await writeAll(store, [
    ...numbers(keptEvents + 1500).map((i) => event(noisy, i + 1)),
    ...numbers(keptOperations + 200).map((i) => operation(i + 1, true)),
    ...numbers(400).map((i) => answer('tok-0000000000000001', i, 60_000)),
    answer('tok-0000000000000002', 0, 10),
    ...numbers(120).map((i) => audit(noisy, i)),
    audit(quiet, 0),
  ]);
  const auditKeys = new Set(await keysBelow(store, 'audit/'));
  await startTestApi(t, { store });
  await eventually(async () => {
    const count = async (prefix: string) => (await keysBelow(store, prefix)).length;
    const seen = [await count('events/'), await count('operations/'), await count('idempotency/')];
    const most = [keptEvents + 1, keptOperations + 1, 280];
    if (seen.some((number, i) => number > (most[i] ?? 0))) throw new Error(`there are ${seen}`);
  });
  t.equal(await store.get(oldest), undefined, 'the oldest have gone');
  const events = await store.list('events/', { limit: 1 });
  t.match(JSON.parse(events.entries[0]?.value ?? '{}'), { project: quiet }, 'those of another project stay');
  t.ok(await store.get('idempotency/tok-0000000000000002/0'), 'and its answers');
  t.ok(await store.get('idempotency/tok-0000000000000001/399'), 'the newest stay');
  const operations = await Promise.all((await keysBelow(store, 'operations/')).map((key) => store.get(key)));
  t.ok(
    operations.some((entry) => entry?.value.includes('running')),
    'what goes on stays',
  );

  const mirror = await openApiMirror(store, resources, silentLogger);
  t.teardown(() => mirror.close());
  const audited = async () => (await keysBelow(store, 'audit/')).filter((key) => auditKeys.has(key));
  t.equal((await audited()).length, 121, 'of few nothing has gone');
  await boundTrails({ store, mirror, logger: silentLogger }, new AbortController().signal, 100);
  t.equal((await audited()).length, 101, 'a hundred, and that of another project');
});

t.test('of each project the newest stay, by number and by bytes', async (t) => {
  const trail = (project: string, at: number, bytes: number) => ({
    key: `${project}${at}`,
    project,
    at: `${at}`,
    bytes,
  });
  const trails = [trail('a', 1, 5), trail('b', 1, 5), trail('a', 3, 5), trail('a', 2, 5)];
  const keys = (most: number, bytes?: number) => beyond(trails, most, bytes).map(({ key }) => key);
  t.same(keys(3), []);
  t.same(keys(2), ['a1']);
  t.same(keys(1), ['a2', 'a1']);
  t.same(keys(9, 10), ['a1']);
  t.same(keys(9, 4), ['a3', 'a2', 'a1', 'b1']);
});

t.test('a flood of changes does not push another change of its author out of the audit', async (t) => {
  let second = 0;
  const trail = (operation: string, token: string) => {
    const at = timeOf(second++).toISOString();
    return { key: `${operation}/${token}/${second}`, project: 'p', at, bytes: 1, operation, token };
  };
  const flood = (operation: string, count: number, tokenOf: (i: number) => string = () => 'bad') =>
    Array.from({ length: count }, (_, i) => trail(operation, tokenOf(i)));
  const before = flood('vm_delete', 3, () => 'good');
  const early = flood('vm_update', 500);
  const deed = trail('terraform_state_delete', 'bad');
  const named = trail('vm_update', 'victim');
  for (const [name, late] of [
    ['one object', flood('vm_update', 5000)],
    ['objects that come and go', [...flood('ssh_key_create', 2500), ...flood('ssh_key_delete', 2500)]],
    ['a new token for each', flood('vm_update', 5000, (i) => `t${i}`)],
    ['the same by another token', flood('terraform_state_delete', 5000, () => 'other')],
  ] as const) {
    const all = [...before, ...early, deed, named, ...late];
    const going = new Set(beyondAudit(all, 1000));
    t.equal(all.length - going.size <= 1000 && all.length - going.size > 900, true, name);
    for (const each of [...before, deed]) t.notOk(going.has(each), `${name}: ${each.key} stays`);
    if (name !== 'a new token for each') t.notOk(going.has(named), `${name}: what another token did stays`);
    t.notOk(going.has(late.at(-1) ?? deed), `${name}: so does the newest`);
  }
  t.same(beyondAudit(early, 500), []);
});

t.test('a token that is deleted takes its answers along', async (t) => {
  const test = await startTestApi(t);
  const { operator, store, project } = test;
  const { id, secret } = await operator.create('tokens', { name: 'short', project });
  await test.client(secret).expect(201, 'POST', '/v1/tokens', { name: 'other' }, { 'idempotency-key': 'k' });
  t.equal((await keysBelow(store, `idempotency/${id}/`)).length, 1);
  await operator.remove('tokens', id);
  t.equal((await keysBelow(store, `idempotency/${id}/`)).length, 0);
});

/** Returns a state of about this compressed size in bytes. */
const state = (serial: number, bytes: number) => ({
  version: 4,
  serial,
  lineage: 'l',
  outputs: { noise: { value: randomBytes(Math.ceil(bytes)).toString('base64'), type: 'string' } },
});
const MiB = 2 ** 20;

t.test('states count by their bytes, and history goes before a write is refused', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const { id: project } = await operator.create('projects', { name: 'acme', quota: { terraform_state_size: '4MiB' } });
  const member = await test.member(project);
  const write = (name: string, serial: number, bytes: number) =>
    member.request('POST', `/v1/terraform-states/${name}`, state(serial, bytes));
  const versions = async (name: string) =>
    (await member.list(`terraform-states/${name}/versions`)).items as unknown as readonly { version: number }[];
  const used = async () => {
    const { body } = await member.expect(200, 'GET', `/v1/projects/${project}/usage`);
    return (body as unknown as { used: { terraform_state_size: string } }).used.terraform_state_size;
  };
  t.equal(await used(), '0MiB');
  for (let serial = 1; serial <= 3; serial++) t.match(await write('one', serial, MiB * 0.9), { status: 200 });
  t.equal(await used(), '3MiB');
  const before = [...(await contentOf(store)).keys()];
  const refused = await write('two', 1, MiB * 2.5);
  t.match(refused, {
    status: 403,
    body: { code: 'quota_exceeded', errors: [{ pointer: '', detail: /4MiB of Terraform states/ }] },
  });
  t.same([...(await contentOf(store)).keys()], before, 'nothing was written, not even ahead');
  for (let serial = 4; serial <= 9; serial++) t.match(await write('one', serial, MiB * 0.9), { status: 200 });
  t.same(
    (await versions('one')).map(({ version }) => version),
    [6, 7, 8, 9],
    'the oldest versions made room',
  );
  t.match(await write('one', 10, MiB * 3.5), { status: 200 });
  t.same(
    (await versions('one')).map(({ version }) => version),
    [10],
  );
  t.match(await write('one', 11, MiB * 5), { status: 403 });
  t.match(await write('two', 1, MiB * 0.1), { status: 200 }, 'there is room for a small one');
  await member.expect(204, 'DELETE', '/v1/terraform-states/one');
  t.equal(await used(), '1MiB');
  t.match(await write('two', 2, MiB * 2.5), { status: 200 });
});

t.test('a new project has the quota that operators have set for new ones', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const old = await operator.create('projects', { name: 'old' });
  const quotaOf = async (id: string) => (await operator.get('projects', id)) as unknown as { quota: object };
  t.match(await operator.expect(200, 'GET', '/v1/settings'), { body: { default_quota: {}, revision: 0 } });
  const default_quota = { ssh_keys: 2, terraform_state_size: '1GiB' };
  const set = await operator.expect(200, 'PATCH', '/v1/settings', { default_quota });
  t.same((set.body as unknown as { default_quota: object }).default_quota, default_quota);
  const fresh = await operator.create('projects', { name: 'fresh' });
  const given = await operator.create('projects', { name: 'given', quota: { vms: 1 } });
  const free = await operator.create('projects', { name: 'free', quota: {} });
  t.same((await quotaOf(fresh.id)).quota, default_quota);
  t.same((await quotaOf(given.id)).quota, { vms: 1 }, 'what is given counts');
  t.same((await quotaOf(free.id)).quota, {}, 'also that nothing is limited');
  t.same((await quotaOf(old.id)).quota, {}, 'a project that was there keeps what it has');
  t.same((await quotaOf(await ensureProject(store, 'first'))).quota, default_quota);
  t.match(
    await operator.update('projects', given.id, { quota: null }),
    { quota: default_quota },
    'null is the default',
  );

  await operator.expect(200, 'PATCH', '/v1/settings', { default_quota: null });
  t.same((await quotaOf(fresh.id)).quota, default_quota, 'and so does one that got it');
  t.same((await quotaOf((await operator.create('projects', { name: 'later' })).id)).quota, {});
  for (const body of ['{}', '{"default_quota":{"vms":1e999}}', '{"default_quota":{"x":1}}', '{"default_quota":7}']) {
    t.match(await operator.request('PATCH', '/v1/settings', body), { status: 400 }, body);
  }
  const member = await test.member(old.id);
  t.match(await member.request('GET', '/v1/settings'), { status: 403 });
  t.match(await member.request('PATCH', '/v1/settings', { default_quota: {} }), { status: 403 });
});
