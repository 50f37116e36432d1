/** The document, the server and the tables say the same. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createClient } from '@hey-api/openapi-ts';
import { build } from 'esbuild';
import t from 'tap';
import { buildApp } from '../../backend/api/app.ts';
import { defaultHttpLimits } from '../../backend/api/http/limits.ts';
import type { ApiContext } from '../../backend/api/requests/context.ts';
import { handlersFor } from '../../backend/api/resources/index.ts';
import { errorCodes, errorTable } from '../../backend/contract/errors.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import { put } from '../../backend/store/collection.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { fileRecord, fileServerRecord } from '../support/file-records.ts';
import { hostRecord } from '../support/host-record.ts';
import { openApiDocument, openApiPath, operations, violation } from '../support/openapi.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('every operation of the document is one of the contract, and the reverse', async (t) => {
  t.same([...operations.keys()].sort(), endpoints.map(({ id }) => id).sort());
});

t.test('an operation without a handler, or the reverse, stops the server from starting', async (t) => {
  const nothing = {} as ApiContext;
  const handlers = handlersFor(endpoints);
  const { vm_get, ...others } = handlers;
  if (!vm_get) throw new Error('there is a handler for vm_get');
  const start = (given: typeof handlers) =>
    buildApp(nothing, {
      endpoints,
      handlers: given,
      requestsPerMinute: 1,
      failuresPerMinute: 1,
      arrivalTimeout: 1000,
      limits: defaultHttpLimits,
    });
  await t.rejects(start(others), /operation vm_get has no handler/);
  await t.rejects(start({ ...handlers, vm_dance: vm_get }), /handler vm_dance has no operation/);
});

t.test('the check of responses finds what is wrong', async (t) => {
  const answer = {
    method: 'GET',
    url: '/v1/ssh-keys',
    operation: 'ssh_key_list',
    status: 200,
    headers: { 'content-type': 'application/json', 'request-id': 'req-1' },
    body: '{"items":[],"revision":1}',
  };
  const headers = { ...answer.headers, 'content-type': 'application/problem+json' };
  t.equal(violation(answer), undefined);
  t.match(violation({ ...answer, body: '{"items":[{}],"revision":1}' }), /must have required property/);
  t.match(violation({ ...answer, body: '{"items":[],"revision":1,"x":1}' }), /additional properties/);
  t.match(violation({ ...answer, status: 202 }), /does not document 202/);
  t.match(violation({ ...answer, headers }), /content type/);
  t.match(violation({ ...answer, headers: {} }), /no Request-Id/);
  const problem = { type: 'urn:x', title: 'x', status: 401, detail: 'x', code: 'in_use', request_id: 'x' };
  t.match(violation({ ...answer, headers, status: 401, body: JSON.stringify(problem) }), /the code in_use/);
});

t.test('the error table, the document and the reference have the same codes', async (t) => {
  const schemas = (
    openApiDocument.components as { schemas: Record<string, { properties: Record<string, { enum: string[] }> }> }
  ).schemas;
  t.same([...(schemas.Problem?.properties.code?.enum ?? [])].sort(), [...errorCodes].sort());
  const reference = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'reference', 'errors.md'), 'utf8');
  const sections = [...reference.matchAll(/^## (\w+)\n\n\*\*(\d+)\*\*/gm)].map(([, code, status]) => [
    code,
    Number(status),
  ]);
  t.same(
    sections,
    errorCodes.map((code) => [code, errorTable[code].status]),
  );
});

t.test('each operation refuses who may not', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const mine = await operator.create('projects', { name: 'mine' });
  const other = await operator.create('projects', { name: 'other' });
  const prerequisites = await createVmPrerequisites(test, mine.id);
  const vm = await operator.create('vms', {
    name: 'vm',
    project: mine.id,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
  });
  const volume = await operator.create('volumes', { name: 'volume', project: mine.id, size: '1GiB' });
  const attachment = await operator.create('volume-attachments', { vm: vm.id, volume: volume.id });
  const token = await operator.create('tokens', { name: 'mine', project: mine.id });
  const host = newId('host');
  const server = newId('file_server');
  const file = fileRecord(server, mine.id as Id<'project'>, 'mine.raw');
  await store.commit({
    write: [
      put(records.hosts, host, hostRecord({ id: host, name: 'node1' })),
      put(records.fileServers, server, fileServerRecord(server)),
      put(records.files, file.id, file),
      put(records.schedules, vm.id, { host, fence: 1, at: '2026-01-01T00:00:00Z' }),
    ],
  });
  await operator.get('vms', vm.id, `?after=${vm.revision}&timeout=10`);
  const peer = { name: 'spine', address: '2001:db8::1', asn: 65001, local_asn: 65002 };
  const bgpPeer = await operator.create('bgp-peers', peer);
  const snapshot = await operator.create('snapshots', { name: 'snapshot', vm: vm.id });
  const prefixRoute = await operator.create('prefix-routes', {
    name: 'route',
    prefix: prerequisites.prefix.id,
    length: 64,
    vm: vm.id,
  });
  const securityGroup = await operator.create('security-groups', { project: mine.id, name: 'group' });
  const times = { cron: '0 3 * * *', retain: 7 };
  const schedule = await operator.create('snapshot-schedules', { name: 'nightly', vm: vm.id, ...times });
  const lock = { ID: 'lock-1', Who: 'bob@desk' };
  await operator.expect(200, 'POST', `/v1/terraform-states/mine/lock?project=${mine.id}`, lock);
  const party = {
    ...{ legal_name: 'Example AG', email: 'a@example.com' },
    address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  };
  const entity = await operator.create('legal-entities', { ...party, name: 'swiss', number_series: 'S-' });
  const payer = await operator.create('billing-accounts', {
    ...{ ...party, name: 'payer', currency: 'CHF', legal_entity: entity.id },
  });
  const hour = await operator.create('products', { name: 'hour', meter: 'booked' });
  const price = await operator.create('prices', { product: hour.id, currency: 'CHF', amount: '1', per: 'once' });
  await operator.update('projects', mine.id, { billing_account: payer.id });
  const order = await operator.create('orders', { project: mine.id, product: hour.id, quantity: 1 });
  const budget = await operator.create('budgets', { project: mine.id, max_monthly_cost: '500' });
  const operation = (await operator.expect(202, 'POST', `/v1/vms/${vm.id}/reboot`, {})).body;

  /** The object of project `mine` that each path is tried with. */
  const ids: Record<string, string> = {
    projects: mine.id,
    tokens: token.id,
    'ssh-keys': prerequisites.sshKey.id,
    images: prerequisites.image.id,
    'prefix-pools': prerequisites.pool.id,
    'storage-pools': builtInPool,
    'bgp-peers': bgpPeer.id,
    prefixes: prerequisites.prefix.id,
    networks: prerequisites.network.id,
    vms: vm.id,
    volumes: volume.id,
    'volume-attachments': attachment.id,
    'prefix-routes': prefixRoute.id,
    'security-groups': securityGroup.id,
    snapshots: snapshot.id,
    'snapshot-schedules': schedule.id,
    hosts: host,
    files: file.id,
    'file-servers': server,
    operations: operation.id,
    'legal-entities': entity.id,
    'billing-accounts': payer.id,
    products: hour.id,
    prices: price.id,
    orders: order.id,
    budgets: budget.id,
    bills: 'bill-0000000000000000',
    payments: 'pay-0000000000000000',
    'payment-sources': 'psrc-0000000000000000',
    'vat-rates': 'vatr-0000000000000000',
    'terraform-states': (await operator.list('terraform-states', `?project=${mine.id}`)).items[0]?.id ?? 'none',
  };
  /**
   * The answers to a member of another project.
   * hidden: 404, as if it were not there. empty: a list without it. foreign: it may not name that project in a
   * creation. shared: everybody may see it. own: speaks of the caller only. separate: a name means
   * something else in each project, and that of another project cannot be named. operator: nobody but operators.
   */
  const expected: Record<string, 'hidden' | 'empty' | 'foreign' | 'shared' | 'own' | 'separate' | 'operator'> = {
    project_list: 'empty',
    project_get: 'hidden',
    project_create: 'operator',
    project_update: 'operator',
    project_delete: 'operator',
    project_usage: 'hidden',
    token_self: 'own',
    prefix_pool_list: 'shared',
    prefix_pool_get: 'shared',
    prefix_pool_create: 'operator',
    prefix_pool_update: 'operator',
    prefix_pool_delete: 'operator',
    storage_pool_list: 'shared',
    storage_pool_get: 'shared',
    storage_pool_create: 'operator',
    storage_pool_update: 'operator',
    storage_pool_delete: 'operator',
    bgp_peer_list: 'operator',
    bgp_peer_get: 'operator',
    bgp_peer_create: 'operator',
    bgp_peer_update: 'operator',
    bgp_peer_delete: 'operator',
    host_list: 'operator',
    file_list: 'empty',
    file_get: 'hidden',
    file_delete: 'hidden',
    file_server_list: 'operator',
    file_server_get: 'operator',
    settings_get: 'operator',
    settings_update: 'operator',
    host_get: 'operator',
    host_update: 'operator',
    host_delete: 'operator',
    operation_list: 'empty',
    operation_get: 'hidden',
    event_list: 'empty',
    audit_record_list: 'operator',
    vm_reboot: 'hidden',
    vm_restore: 'hidden',
    vm_move: 'operator',
    terraform_state_list: 'empty',
    capacity_check: 'foreign',
    quote_calculate: 'foreign',
    cost_list: 'separate',
    bill_document: 'operator',
    bill_credit: 'operator',
    billing_account_preview: 'operator',
    billing_account_balance: 'operator',
    payment_create: 'operator',
    vat_rate_create: 'operator',
    vat_rate_delete: 'operator',
    ended_order_list: 'empty',
    order_list: 'empty',
    order_get: 'hidden',
    order_cancel: 'operator',
    budget_list: 'empty',
    budget_get: 'hidden',
    ...Object.fromEntries(
      ['legal_entity', 'billing_account', 'product', 'price', 'order', 'payment_source', 'budget'].flatMap((noun) =>
        ['create', 'update', 'delete'].map((verb) => [`${noun}_${verb}`, 'operator'] as const),
      ),
    ),
    ...Object.fromEntries(['product_list', 'product_get', 'price_list', 'price_get'].map((id) => [id, 'shared'])),
    ...Object.fromEntries(
      ['legal_entity', 'billing_account', 'bill', 'payment', 'payment_source', 'vat_rate']
        .flatMap((noun) => [`${noun}_list`, `${noun}_get`])
        .map((id) => [id, 'operator']),
    ),
    image_newest: 'separate',
    ...Object.fromEntries(
      ['read', 'write', 'delete', 'lock', 'unlock', 'version_list', 'version_read'].map((verb) => [
        `terraform_state_${verb}`,
        'separate',
      ]),
    ),
    ...Object.fromEntries(
      [
        'token',
        'ssh_key',
        'image',
        'prefix',
        'network',
        'vm',
        'volume',
        'volume_attachment',
        'prefix_route',
        'security_group',
        'snapshot',
        'snapshot_schedule',
      ].flatMap((noun) => [
        [`${noun}_list`, 'empty'],
        [`${noun}_get`, 'hidden'],
        [`${noun}_create`, 'foreign'],
        [`${noun}_update`, 'hidden'],
        [`${noun}_delete`, 'hidden'],
      ]),
    ),
  };

  const nobody = test.client(undefined);
  const wrong = [
    test.client(`ucloud_${'0'.repeat(16)}_${'0'.repeat(64)}`),
    test.client(token.secret.slice(0, -1) + (token.secret.endsWith('0') ? '1' : '0')),
    test.client('nonsense'),
    test.client(`${token.secret}'--`),
  ];
  const viewer = await test.member(mine.id, 'viewer');
  const member = await test.member(mine.id);
  const stranger = await test.member(other.id);
  const own = (await stranger.expect(200, 'GET', '/v1/token')).body;

  for (const { operationId, method, path, access, body } of operations.values()) {
    // Uploads need headers of their own protocol; test/api/uploads.test.ts tries them.
    if (path.startsWith('/v1/uploads')) continue;
    // A signature takes the place of a token; test/security/payment-events.test.ts tries it.
    if (access === 'signed') continue;
    await t.test(operationId, async (t) => {
      const what = expected[operationId];
      if (what === undefined) throw new Error('this operation has no case in this test');
      const plural = path.split('/')[2] ?? '';
      const url = path
        .replace('{id}', ids[plural] ?? 'none')
        .replace(/{(name|family)}/, 'mine')
        .replace('{version}', '1');
      const basic = endpoints.find(({ id }) => id === operationId)?.basic;
      // Attachments, routes and snapshots get the project of their VM.
      const owners: Record<string, object> = {
        'volume-attachments': { vm: vm.id, volume: volume.id },
        'prefix-routes': { vm: vm.id, prefix: prerequisites.prefix.id },
        snapshots: { vm: vm.id, volume: undefined },
        'snapshot-schedules': { vm: vm.id, volume: undefined },
      };
      const owner = owners[plural] ?? { project: mine.id };
      const forged = body && path.endsWith(plural) && what === 'foreign' ? { ...body, ...owner } : body;

      for (const client of [nobody, ...wrong]) {
        const answer = await client.request(method, url, forged);
        t.match(answer, { status: 401, body: { code: 'unauthenticated' } });
        t.equal(answer.headers.get('www-authenticate'), basic ? 'Bearer, Basic realm="ucloud"' : 'Bearer');
      }
      if (access !== 'viewer')
        t.match(await viewer.request(method, url, forged), { status: 403, body: { code: 'forbidden' } });
      if (access === 'operator')
        t.match(await member.request(method, url, forged), { status: 403, body: { code: 'forbidden' } });

      const answer = await stranger.request(method, url, forged);
      switch (what) {
        case 'hidden':
          t.match(answer, { status: 404, body: { code: 'not_found' } });
          break;
        case 'operator':
          t.match(answer, { status: 403, body: { code: 'forbidden' } });
          break;
        case 'foreign':
          t.match(answer, {
            status: 422,
            body: { code: 'invalid_reference', errors: [{ pointer: /^\/(project|vm)$/ }] },
          });
          break;
        case 'empty': {
          t.equal(answer.status, 200);
          const text = JSON.stringify(answer.body);
          for (const id of Object.values(ids).filter((id) => id !== prerequisites.pool.id && id !== builtInPool))
            t.notOk(text.includes(id), id);
          const named = await stranger.request(method, `${url}?project=${mine.id}`);
          t.equal(named.status, path === '/v1/projects' ? 400 : 404, 'nor does it learn that the project exists');
          break;
        }
        case 'shared':
          t.equal(answer.status, 200);
          break;
        case 'separate': {
          t.notOk(JSON.stringify(answer.body).includes('bob'), 'the lock of the other project is another');
          const named = await stranger.request(method, `${url}?project=${mine.id}`, forged);
          t.match(named, { status: 404, body: { code: 'not_found' } });
          break;
        }
        case 'own':
          t.match(answer, { status: 200, body: { id: own.id } });
          break;
      }
    });
  }
});

interface GeneratedResult {
  readonly data?: Record<string, unknown>;
  readonly error?: Record<string, unknown>;
  readonly response: Response;
}
type GeneratedOperation = (options: object) => Promise<GeneratedResult>;

t.test('a client made by a generator that is not ours', async (t) => {
  const test = await startTestApi(t);
  const prerequisites = await createVmPrerequisites(test, test.project);
  const directory = temporaryDirectory(t);
  await createClient({
    input: openApiPath,
    output: { path: join(directory, 'client') },
    plugins: ['@hey-api/typescript', '@hey-api/sdk', '@hey-api/client-fetch'],
    logs: { level: 'silent', file: false },
  });
  const bundle = join(directory, 'client.mjs');
  await build({ entryPoints: [join(directory, 'client', 'sdk.gen.ts')], bundle: true, format: 'esm', outfile: bundle });
  const sdk: Record<string, GeneratedOperation> = await import(pathToFileURL(bundle).href);
  const call = async (name: string, options: object): Promise<GeneratedResult> => {
    const operation = sdk[name];
    if (!operation) throw new Error(`the generated client has no ${name}: ${Object.keys(sdk).join(', ')}`);
    return operation({ baseUrl: test.url, auth: () => test.operatorToken, ...options });
  };

  const created = await call('vmCreate', {
    headers: { 'Idempotency-Key': 'generated-1' },
    body: {
      name: 'generated',
      project: test.project,
      image: prerequisites.image.id,
      disk_size: '1GiB',
      interfaces: [{ network: prerequisites.network.id }],
      labels: { made: 'by-generator' },
    },
  });
  t.equal(created.response.status, 201, JSON.stringify(created.error));
  const id = String(created.data?.id);
  const listed = await call('vmList', { query: { selector: 'made=by-generator', limit: 10 } });
  t.match(listed.data, { items: [{ id }] });
  t.match((await call('vmUpdate', { path: { id }, body: { cpus: 2 } })).data, { cpus: 2 });
  t.match((await call('vmGet', { path: { id } })).data, { cpus: 2, labels: { made: 'by-generator' } });
  const failed = await call('vmCreate', { body: { name: 'generated' } });
  t.match(failed.error, { code: 'invalid_input', errors: [{ pointer: '/interfaces' }] });
  t.equal((await call('vmDelete', { path: { id } })).response.status, 202);
  await test.operator.gone('vms', id, 0);
  const keys = await call('sshKeyCreate', { body: { name: 'k', project: test.project, public_key: testPublicKey } });
  t.equal((await call('sshKeyDelete', { path: { id: String(keys.data?.id) } })).response.status, 204);
});
