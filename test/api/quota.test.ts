/** A project has no more than its operator lets it have, however many ask at once and whichever server they ask. */
import t, { type Test } from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import {
  ApiClient,
  type Body,
  contentOf,
  createVmPrerequisites,
  startTestApi,
  type TestApi,
  type VmPrerequisites,
} from '../support/api.ts';
import { onBothStores, stopSharedEtcd } from '../support/both-stores.ts';
import { bound } from '../support/bound-store.ts';
import { hostRecord } from '../support/host-record.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { testPublicKey } from '../support/ssh-keys.ts';

t.teardown(stopSharedEtcd);

const GiB = 2 ** 30;

/** A second server on the same database, as if on another machine. */
async function secondServer(t: Test, test: TestApi, store: Store): Promise<ApiClient> {
  const api = await startApi({
    store,
    listen: { host: '::1', port: 0 },
    logger: silentLogger,
    rateLimit: { requestsPerMinute: 1_000_000 },
  });
  t.teardown(() => api.close());
  return new ApiClient(api.url, test.operatorToken);
}

const vm = (prerequisites: VmPrerequisites, project: string, name: string, more: object = {}) => ({
  name,
  project,
  image: prerequisites.image.id,
  disk_size: '1GiB',
  memory: '1GiB',
  interfaces: [{ network: prerequisites.network.id }],
  ...more,
});

interface Usage {
  readonly used: Readonly<Record<string, number | string>>;
  readonly quota: object;
}
const usageOf = async (client: ApiClient, project: string): Promise<Usage> =>
  (await client.expect(200, 'GET', `/v1/projects/${project}/usage`)).body as unknown as Usage;
const tally = (answers: readonly { readonly status: number; readonly body: Body }[]): Record<string, number> => {
  const result: Record<string, number> = {};
  for (const { status, body } of answers) {
    const what = status < 300 ? 'done' : (body.code ?? String(status));
    result[what] = (result[what] ?? 0) + 1;
  }
  return result;
};

await onBothStores(t, 'as many as the quota allows, from two servers', async (t, fresh) => {
  const database = await fresh();
  const store = await database.connect();
  const test = await startTestApi(t, { store });
  const servers = [test.operator, await secondServer(t, test, await database.connect())] as const;
  const [one] = servers;
  const { id: project } = await one.create('projects', { name: 'acme', quota: { vms: 10, memory: '10GiB' } });
  const prerequisites = await createVmPrerequisites(test, project);
  const before = await contentOf(store);
  const at = (i: number) => servers[i % 2 === 0 ? 0 : 1];

  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) => at(i).request('POST', '/v1/vms', vm(prerequisites, project, `vm-${i}`))),
  );
  t.same(tally(answers), { done: 10, quota_exceeded: 90 });
  t.match((await usageOf(one, project)).used, { vms: 10, memory: '10GiB', cpus: 10, disk: '10GiB' });
  const refused = answers.find(({ status }) => status === 403)?.body;
  t.match(refused, {
    code: 'quota_exceeded',
    detail:
      'exceeds the quota: the project acme may have 10 VMs and has 10; exceeds the quota: the project acme may have 10GiB of memory and has 10GiB, and 1GiB more is asked for',
    errors: [{ pointer: '/project' }, { pointer: '/memory' }],
  });

  await t.test('a request that is sent again is no other one', async (t) => {
    await one.update('projects', project, { quota: { vms: 11 } });
    const once = async (client: ApiClient) =>
      client.request('POST', '/v1/vms', vm(prerequisites, project, 'once'), { 'idempotency-key': 'once' });
    const twins = await Promise.all([0, 1, 2, 3].map((i) => once(at(i))));
    t.same(tally([...twins, await once(one)]), { done: 5 }, 'the quota is full, and the answer is the first one');
    await one.remove('vms', String(twins[0]?.body.id));
  });

  await t.test('growing one counts like making one', async (t) => {
    await one.update('projects', project, { quota: { cpus: 14 } });
    const made = answers.flatMap(({ status, body }) => (status === 201 ? [body.id] : []));
    const grown = await Promise.all(made.map((id, i) => at(i).request('PATCH', `/v1/vms/${id}`, { cpus: 2 })));
    t.same(tally(grown), { done: 4, quota_exceeded: 6 });
    t.match(grown.find(({ status }) => status === 403)?.body.errors, [
      { pointer: '/cpus', detail: 'exceeds the quota: the project acme may have 14 cpus and has 14' },
    ]);
    t.equal((await usageOf(one, project)).used.cpus, 14);
  });

  await t.test('a deleted object makes room when it is removed', async (t) => {
    const vms = (await one.list('vms', `?project=${project}`)).items;
    await one.update('projects', project, { quota: { vms: 10 } });
    const [first, ...others] = vms;
    // A VM that a host may still run counts.
    await store.commit({
      write: [put(records.schedules, String(first?.id), { fence: 1, at: '2026-01-01T00:00:00Z' })],
    });
    await one.get('vms', String(first?.id), '?after=0');
    await one.expect(202, 'DELETE', `/v1/vms/${first?.id}`);
    t.match(await one.request('POST', '/v1/vms', vm(prerequisites, project, 'early')), { status: 403 });
    await store.commit({ write: [{ delete: `schedules/${first?.id}` }] });
    await one.gone('vms', String(first?.id), 0);
    await at(1).create('vms', vm(prerequisites, project, 'late'));
    for (const { id } of [...others, ...(await one.list('vms', '?name=late')).items]) await one.remove('vms', id);
    t.equal((await usageOf(one, project)).used.vms, 0);
    const guard = await read(store, records.quotaGuards, project);
    t.ok(guard, 'a project with a quota has its guard');
    const after = await contentOf(store);
    for (const content of [before, after]) {
      content.delete(`quota-guards/${project}`);
      content.delete(`projects/${project}`);
    }
    t.same(after, before, 'nothing else is left');
  });

  await t.test('a quota that is set while a VM is made binds it', async (t) => {
    await one.update('projects', project, { quota: null });
    const held = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    const slow = bound(await database.connect());
    const server = await secondServer(t, test, {
      ...slow,
      async commit(commit) {
        if (commit.write.some((write) => 'put' in write && write.put.startsWith('vms/'))) {
          arrived.resolve();
          await held.promise;
        }
        return slow.commit(commit);
      },
    });
    const making = server.request('POST', '/v1/vms', vm(prerequisites, project, 'slow'));
    // It was decided on when there was no quota.
    await arrived.promise;
    await one.update('projects', project, { quota: { vms: 0 } });
    held.resolve();
    t.match(await making, { status: 403, body: { errors: [{ detail: /may have no VMs and has 0$/ }] } });
  });
});

t.test('every kind is counted, limited, and named in the error', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const { id: project } = await operator.create('projects', { name: 'acme' });
  const prerequisites = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  const key = {
    name: 'second',
    public_key: testPublicKey,
  };
  const lock = { ID: 'one' };
  const table: [limit: object, path: string, body: object, pointer: string, words: RegExp][] = [
    [
      { networks: 1 },
      '/v1/networks',
      { name: 'n', prefix: prerequisites.prefix.id },
      '/project',
      /may have 1 network and has 1$/,
    ],
    [{ prefixes: 1 }, '/v1/prefixes', { name: 'p', length: 60 }, '/project', /may have 1 prefix and has 1$/],
    [
      { subnets: 260 },
      '/v1/prefixes',
      { name: 'p', length: 60 },
      '/length',
      /may have 260 \/64s in its prefixes and has 256, and 16 more are/,
    ],
    [{ images: 1 }, '/v1/images', { name: 'i', source: 'file:i' }, '/project', /may have 1 image and has 1$/],
    [{ ssh_keys: 1 }, '/v1/ssh-keys', key, '/project', /may have 1 SSH key and has 1$/],
    [{ volumes: 0 }, '/v1/volumes', { name: 'd', size: '1GiB' }, '/project', /may have no volumes and has 0$/],
    [{ tokens: 1 }, '/v1/tokens', { name: 't' }, '/project', /may have 1 token and has 1$/],
    [
      { terraform_states: 0 },
      '/v1/terraform-states/s/lock',
      lock,
      '#path/name',
      /may have no Terraform states and has 0$/,
    ],
    [
      { cpus: 3 },
      '/v1/vms',
      vm(prerequisites, project, 'v', { cpus: 4 }),
      '/cpus',
      /may have 3 cpus and has 0, and 4 more are/,
    ],
    [
      { memory: '512MiB' },
      '/v1/vms',
      vm(prerequisites, project, 'v'),
      '/memory',
      /may have 512MiB of memory and has 0MiB, and 1GiB/,
    ],
    [
      { disk: '512MiB' },
      '/v1/vms',
      vm(prerequisites, project, 'v'),
      '/disk_size',
      /may have 512MiB of disk and has 0MiB, and 1GiB/,
    ],
  ];
  for (const [quota, path, body, pointer, words] of table) {
    await operator.update('projects', project, { quota });
    const before = await contentOf(test.store);
    const answer = await member.request('POST', path, body);
    t.match(answer, { status: 403, body: { code: 'quota_exceeded', errors: [{ pointer, detail: words }] } });
    t.same(await contentOf(test.store), before, 'nothing has changed');
  }
  await operator.update('projects', project, { quota: null });
  for (const [, path, body] of table.filter(([limit]) => !('subnets' in limit || 'cpus' in limit || 'disk' in limit))) {
    const { status } = await member.request('POST', path, body);
    t.ok(status === 201 || status === 200, `${path} without a quota`);
  }
  t.same(await usageOf(member, project), {
    project,
    quota: {},
    used: {
      vms: 1,
      cpus: 1,
      memory: '1GiB',
      disk: '2GiB',
      volumes: 1,
      snapshots: 0,
      snapshot_schedules: 0,
      networks: 2,
      prefixes: 2,
      prefix_routes: 0,
      security_groups: 0,
      subnets: 272,
      files: 0,
      file_bytes: '0MiB',
      images: 2,
      ssh_keys: 2,
      tokens: 2,
      terraform_states: 1,
      terraform_state_size: '0MiB',
    },
    revision: (await operator.list('projects')).revision,
  });

  await t.test('only operators set it; lowered below use, it takes nothing away', async (t) => {
    const change = { quota: { ssh_keys: 1, memory: '512MiB' } };
    t.match(await member.request('PATCH', `/v1/projects/${project}`, change), {
      status: 403,
      body: { code: 'forbidden' },
    });
    await operator.update('projects', project, change);
    const mine = await member.get('projects', project);
    t.match(mine, change);
    const [machine] = (await member.list('vms')).items;
    await member.update('vms', String(machine?.id), { memory: '768MiB', description: 'smaller, and still too much' });
    t.match(await member.request('PATCH', `/v1/vms/${machine?.id}`, { memory: '1GiB' }), { status: 403 });
    const [first] = (await member.list('ssh-keys')).items;
    await member.update('ssh-keys', String(first?.id), { name: 'renamed' });
    for (const quota of [{ vms: -1 }, { vms: 1.5 }, { memory: '2GB' }, { hosts: 1 }, 7]) {
      t.match(await operator.request('PATCH', `/v1/projects/${project}`, { quota }), {
        status: 400,
        body: { errors: [{ pointer: /^\/quota/ }] },
      });
    }
  });
});

t.test('a capacity check says what would find no room, and changes nothing', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const { id: project } = await operator.create('projects', { name: 'acme', quota: { vms: 6, networks: 2 } });
  const { id: other } = await operator.create('projects', { name: 'other' });
  const prerequisites = await createVmPrerequisites(test, project);
  const foreign = await createVmPrerequisites(test, other);
  const at = '2026-01-01T00:00:00Z';
  const host = newId('host');
  const place = (id: string) => [
    put(records.schedules, id, { host, fence: 1, at }),
    put(records.placements, `${host}/${id}`, { cpus: 1, memory: 4 * GiB, disk: 10 * GiB, fence: 1, at }),
  ];
  const mine = await operator.create('vms', vm(prerequisites, project, 'mine', { memory: '4GiB', disk_size: '10GiB' }));
  const theirs = await operator.create('vms', vm(foreign, other, 'theirs', { memory: '4GiB', disk_size: '10GiB' }));
  const { revision } = (await store.commit({
    write: [
      put(records.hosts, host, hostRecord({ id: host, name: 'node1' })),
      put(records.alive, host, { at }),
      put(records.imageReports, prerequisites.image.id, { phase: 'available', size: 60 * GiB, at }),
      ...place(mine.id),
      ...place(theirs.id),
    ],
  })) as { revision: number };
  const viewer = await test.member(project, 'viewer');
  const before = await contentOf(store);
  const ask = async (body: object) =>
    (
      (await viewer.expect(200, 'POST', '/v1/capacity-checks', body, { 'ucloud-min-revision': `${revision}` }))
        .body as unknown as { refusals: object[] }
    ).refusals;

  t.same(await ask({}), []);
  t.same(await ask({ vms: [{ count: 2, memory: '4GiB' }], networks: 1, ssh_keys: 100 }), []);
  t.same(await ask({ vms: [{ memory: '4GiB' }, { count: 3, memory: '4GiB' }], networks: 2 }), [
    {
      pointer: '/vms/1/memory',
      first: 1,
      count: 2,
      reason: 'no_host',
      message: 'needs 4GiB of memory, largest free host has 0MiB',
    },
    {
      pointer: '/networks',
      first: 1,
      count: 1,
      reason: 'quota_exceeded',
      message: 'the project acme may have 2 networks and has 1, and 2 more are asked for',
    },
  ]);
  t.match(await ask({ vms: [{ count: 6 }] }), [
    {
      pointer: '/vms/0',
      first: 5,
      count: 1,
      reason: 'quota_exceeded',
      message: 'the project acme may have 6 VMs and has 1, and 6 more are asked for',
    },
  ]);
  t.match(await ask({ vms: [{ image: prerequisites.image.id }, { image: prerequisites.image.id }] }), [
    { pointer: '/vms/1/disk_size', message: 'needs 60GiB of disk, largest free host has 20GiB' },
  ]);
  t.match(await ask({ vms: [{ architecture: 'aarch64' }] }), [{ message: 'no host has the architecture aarch64' }]);
  t.same(await ask({ vms: [{ vm: mine.id, memory: '12GiB' }] }), []);
  t.match(await ask({ vms: [{ vm: mine.id, memory: '13GiB', cpus: 2 }] }), [
    { pointer: '/vms/0/memory', count: 1, reason: 'host_full', message: /^Its host has not enough memory left/ },
  ]);
  const large = { vms: [{ memory: '12GiB' }] };
  t.equal((await ask(large)).length, 1);
  t.same(await ask({ ...large, leaving: [mine.id] }), [], 'what leaves makes room');
  t.equal((await ask({ ...large, leaving: [theirs.id, newId('vm')] })).length, 1, 'but not what is of others');
  t.same(await ask({ networks: 2, leaving: [prerequisites.network.id] }), []);

  const table: [object, status: number, pointer: string][] = [
    [{ vms: [{}, { image: foreign.image.id }] }, 422, '/vms/1/image'],
    [{ vms: [{ vm: theirs.id }] }, 422, '/vms/0/vm'],
    [{ project: other }, 422, '/project'],
    [{ vms: [{ count: 4000 }, { count: 4000 }] }, 422, '/vms'],
    [{ vms: [{ count: 0 }] }, 400, '/vms/0/count'],
    [{ leaving: ['nonsense'] }, 400, '/leaving/0'],
    [{ hosts: 1 }, 400, '/hosts'],
  ];
  for (const [body, status, pointer] of table) {
    t.match(await viewer.request('POST', '/v1/capacity-checks', body), { status, body: { errors: [{ pointer }] } });
  }
  t.same(await contentOf(store), before);
});
