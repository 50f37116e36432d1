/** Labels of hosts belong to operators: a tenant learns only what the operator has published. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import { type ApiClient, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';
import { silentLogger } from '../support/silent-logger.ts';

async function setUp(t: Parameters<typeof startTestApi>[0]) {
  const test = await startTestApi(t);
  const { image, network } = await createVmPrerequisites(test, test.project);
  const available = { phase: 'available', size: 2 ** 30, at: 'now' } as const;
  const host = newId('host');
  await test.store.commit({
    write: [
      put(records.imageReports, image.id, available),
      put(records.hosts, host, hostRecord({ id: host })),
      put(records.alive, host, { at: 'now' }),
    ],
  });
  await until('the host', async () => (await test.operator.list('hosts')).items.length === 1);
  await test.operator.update('hosts', host, { labels: { zone: 'north', customer: 'secret-bank' } });
  const vm = (name: string, host_selector: string) => ({
    ...{ project: test.project, name, host_selector, image: image.id, disk_size: '1GiB' },
    interfaces: [{ network: network.id }],
  });
  return {
    ...test,
    host,
    vm,
    member: await test.member(test.project),
    viewer: await test.member(test.project, 'viewer'),
  };
}

const publish = (operator: ApiClient, ...keys: string[]) =>
  operator.expect(200, 'PATCH', '/v1/settings', { selectable_host_labels: keys });

t.test('a tenant cannot probe labels that the operator has not published', async (t) => {
  const { operator, member, viewer, vm } = await setUp(t);
  const probes: readonly [string, ApiClient, string, (selector: string) => object][] = [
    ['creation', member, '/v1/vms', (selector) => vm('probe', selector)],
    ['dry run', member, '/v1/vms?dry_run=true', (selector) => vm('probe', selector)],
    ['capacity check', viewer, '/v1/capacity-checks', (host_selector) => ({ vms: [{ cpus: 1 }, { host_selector }] })],
  ];
  const answers = async (selector: string) =>
    Promise.all(
      probes.map(async ([what, client, path, body]) => {
        const { status, body: answer } = await client.request('POST', path, body(selector));
        return { what, status, code: answer.code, errors: answer.errors };
      }),
    );
  for (const published of [[], ['zone']]) {
    await publish(operator, ...published);
    const names = published.length === 0 ? 'there are none' : 'these are zone';
    const detail = `must name only labels that the operator has published: ${names}; it names customer`;
    for (const selector of ['customer=secret-bank', 'customer=nobody', 'customer', '!customer', 'zone,customer!=a']) {
      for (const { what, status, code, errors } of await answers(
        published.length === 0 ? selector.replace('zone,', '') : selector,
      )) {
        t.match({ status, code }, { status: 422, code: 'rule_violated' }, `${what}: ${selector}`);
        t.equal(errors?.[0]?.detail, detail, 'the same answer, whether or not a host has the label');
        t.match(errors?.[0]?.pointer, /host_selector$/);
      }
    }
  }
  t.strictSame((await member.list('vms')).items, [], 'nothing was created');
  for (const client of [member, viewer]) {
    for (const path of ['/v1/hosts', '/v1/hosts?selector=customer', '/v1/settings'])
      await client.expect(403, 'GET', path);
  }
});

t.test('a tenant sees no label of a host but those of its own selector', async (t) => {
  const { store, operator, member, viewer, vm, host } = await setUp(t);
  const scheduler = await startScheduler({ store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  await publish(operator, 'zone');
  const placed = await member.create('vms', vm('placed', 'zone=north'));
  const waiting = await member.create('vms', vm('waiting', 'zone=south'));
  await until('decisions', async () => {
    const [one, two] = [await member.get('vms', placed.id), await member.get('vms', waiting.id)];
    const statuses = [one, two].map(({ status }) => status as { readonly host?: string; readonly reason?: string });
    return statuses[0]?.host === host && statuses[1]?.reason === 'no_host';
  });
  t.match(await member.get('vms', waiting.id), {
    status: { phase: 'pending', reason: 'no_host', message: /no host matches the host selector zone=south/ },
  });
  for (const client of [member, viewer]) {
    for (const path of ['vms', 'events', 'operations']) {
      const text = JSON.stringify(await client.list(path));
      t.notMatch(text, /secret-bank|customer/, path);
    }
  }
});

t.test('operators may name every label, and a label that is no longer published leaves VMs as they are', async (t) => {
  const { operator, member, vm } = await setUp(t);
  t.match(await operator.create('vms', vm('by-operator', 'customer=secret-bank')), {
    host_selector: 'customer=secret-bank',
  });
  await publish(operator, 'zone');
  const before = await member.create('vms', vm('before', 'zone=north'));
  await publish(operator);
  t.match(await member.request('POST', '/v1/vms', vm('after', 'zone=north')), {
    status: 422,
    body: { errors: [{ pointer: '/host_selector' }] },
  });
  t.match(await member.update('vms', before.id, { cpus: 2 }), { cpus: 2, host_selector: 'zone=north' });
});
