/** Every number of the contract is one that JSON, TypeScript and Terraform carry without loss, wherever it comes from. */

import t from 'tap';
import { validator } from '../../backend/api/requests/validation.ts';
import type { Endpoint } from '../../backend/contract/endpoint.ts';
import { UcloudError } from '../../backend/contract/errors.ts';
import { endpoints } from '../../backend/contract/index.ts';
import { idFrom } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { InvalidRecordError } from '../../backend/store/record-codec.ts';
import type { RecordKind } from '../../backend/store/record-kind.ts';
import { contentOf, startTestApi } from '../support/api.ts';

interface Schema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
}

interface Place {
  readonly path: readonly string[];
  readonly schema: Schema;
}

/** Each number of a schema. An item of a list has the index 0. */
function numbersIn(schema: Schema, path: readonly string[] = []): Place[] {
  const own = schema.type === 'integer' || schema.type === 'number' ? [{ path, schema }] : [];
  return [
    ...own,
    ...(schema.anyOf ?? []).flatMap((each) => numbersIn(each, path)),
    ...(schema.items ? numbersIn(schema.items, [...path, '0']) : []),
    ...Object.entries(schema.properties ?? {}).flatMap(([name, each]) => numbersIn(each, [...path, name])),
  ];
}

/** Returns the value with another one at a path. Missing parents are created. */
function withAt(value: unknown, [step, ...rest]: readonly string[], given: unknown): unknown {
  if (step === undefined) return given;
  if (step === '0') return [withAt(Array.isArray(value) ? value[0] : undefined, rest, given)];
  const fields = (value ?? {}) as Readonly<Record<string, unknown>>;
  return { ...fields, [step]: withAt(fields[step], rest, given) };
}

const bodyOf = ({ body }: Endpoint): Schema => (body ?? {}) as Schema;
const example = (parameters: object | undefined): Record<string, string> =>
  Object.fromEntries(
    Object.entries((parameters as Schema | undefined)?.properties ?? {}).map(([name, { pattern = '' }]) => {
      const prefix = /^\^([a-z]+)-/.exec(pattern)?.[1];
      return [name, prefix ? `${prefix}-0123456789abcdef` : pattern.startsWith('^[1-9]') ? '1' : 'x'];
    }),
  );
const pathOf = (endpoint: Endpoint): string => {
  const values = example(endpoint.params);
  return endpoint.path.replace(/\{(\w+)\}/g, (_all, name: string) => values[name] ?? 'x');
};

t.test('every number of the contract has a least and a most that doubles hold exactly', async (t) => {
  for (const endpoint of endpoints) {
    for (const part of [endpoint.params, endpoint.query, endpoint.headers, endpoint.body, endpoint.success.schema]) {
      for (const { path, schema } of numbersIn((part ?? {}) as Schema)) {
        const { minimum = Number.NaN, maximum = Number.NaN } = schema;
        const holds = Math.abs(minimum) <= Number.MAX_SAFE_INTEGER && Math.abs(maximum) <= Number.MAX_SAFE_INTEGER;
        t.ok(holds, `${endpoint.id} ${path.join('/')}: ${minimum} to ${maximum}`);
      }
    }
  }
});

/** Numbers that JSON allows and no field of the contract does. */
const hostile = ['1e999', '-1e999', '1e308', '-1e308', '9007199254740992', '9'.repeat(400), '"1"', '[1]', '{"a":1}'];
const fractions = ['1.5', '0.1', '4e-320'];
const noJson = ['NaN', 'Infinity', '0x10', '01', '+1', '.5', '1.', '1e', '--1'];
const noDecimal = [
  '1e999',
  '1e1',
  '0x10',
  '1.5',
  '+1',
  '01',
  ' 1',
  '1 ',
  '1\n',
  'NaN',
  'Infinity',
  '-0',
  '9'.repeat(400),
];

/** Returns the wrong fields of a request, by the check against the contract. */
function refused(endpoint: Endpoint, part: 'query' | 'body', given: unknown): readonly string[] {
  const nothing = { params: example(endpoint.params), query: {}, headers: {}, body: endpoint.bodyExample };
  try {
    validator(endpoint)({ ...nothing, [part]: given });
    return [];
  } catch (error) {
    if (error instanceof UcloudError && error.code === 'invalid_input') return error.errors.map((each) => each.pointer);
    throw error;
  }
}

t.test('a number that is none, or beyond what doubles hold, is refused by its field', async (t) => {
  let tried = 0;
  for (const endpoint of endpoints) {
    if (!endpoint.opaqueBody) {
      for (const { path, schema } of numbersIn(bodyOf(endpoint))) {
        for (const text of [...hostile, ...(schema.type === 'integer' ? fractions : [])]) {
          const given = withAt(endpoint.bodyExample, path, JSON.parse(text));
          const pointers = refused(endpoint, 'body', given);
          const pointer = `/${path.join('/')}`;
          if (!pointers.includes(pointer)) t.fail(`${endpoint.id} ${pointer} = ${text.slice(0, 20)}: ${pointers}`);
          tried++;
        }
      }
    }
    for (const { path, schema } of numbersIn((endpoint.query ?? {}) as Schema)) {
      for (const text of [...noDecimal, String((schema.maximum ?? 0) + 1), String((schema.minimum ?? 0) - 1)]) {
        const pointers = refused(endpoint, 'query', { [path[0] ?? '']: text });
        if (!pointers.includes(`#query/${path[0]}`)) t.fail(`${endpoint.id} ?${path[0]}=${text.slice(0, 20)}`);
        tried++;
      }
    }
  }
  t.ok(tried > 500, `${tried} numbers were tried`);
});

t.test('over HTTP such a number changes nothing', async (t) => {
  const { operator, store, project } = await startTestApi(t);
  const before = await contentOf(store);
  const requests = endpoints.flatMap((endpoint) =>
    numbersIn(bodyOf(endpoint)).flatMap(({ path }) =>
      ['1e999', ...noJson].map((text) => ({
        what: `${endpoint.id} /${path.join('/')} = ${text}`,
        method: endpoint.method,
        url: `${pathOf(endpoint)}?${endpoint.id.startsWith('terraform_state') ? `project=${project}` : ''}`,
        body: JSON.stringify(withAt(endpoint.bodyExample, path, '@')).replace('"@"', text),
      })),
    ),
  );
  t.ok(requests.length > 100, `${requests.length} requests`);
  for (const { what, method, url, body } of requests) {
    const { status } = await operator.request(method, url, body);
    if (status !== 400) t.fail(`${what}: ${status}`);
  }
  for (const query of ['limit=1e1', `limit=${'9'.repeat(400)}`, 'limit=1&limit=2', 'after=1e999', 'timeout=0x1']) {
    t.match(await operator.request('GET', `/v1/vms?${query}`), { status: 400 }, query.slice(0, 20));
  }
  for (const text of ['1e3', '9007199254740993', '-1', 'x']) {
    const headers = { 'ucloud-min-revision': text };
    t.match(await operator.request('GET', '/v1/projects', undefined, headers), { status: 400 }, text);
  }
  t.same(await contentOf(store), before, 'nothing has changed');
  t.equal((await operator.get('projects', project)).id, project);
});

t.test('the limits of a quota are kept exactly up to 2^53 - 1', async (t) => {
  const { operator, project } = await startTestApi(t);
  const set = async (quota: string) => (await operator.request('PATCH', `/v1/projects/${project}`, quota)).body;
  t.match(await set('{"quota":{"vms":9007199254740991}}'), { quota: { vms: 9007199254740991 } });
  t.match(await set('{"quota":{"vms":-0}}'), { quota: { vms: 0 } });
  t.match(await operator.get('projects', project), { quota: { vms: 0 } });
  t.match(await set('{"quota":{"vms":1e999,"vms":7}}'), { quota: { vms: 7 } }, 'of a field that comes twice the last');
  t.match(await set('{"quota":{"vms":7,"vms":1e999}}'), { code: 'invalid_input' }, 'and that one is checked');
  t.match(await set('{"quota":{"__proto__":{"vms":1}}}'), { code: 'invalid_input' });
});

t.test('sums of the largest sizes stay exact', async (t) => {
  const { operator, project, store } = await startTestApi(t);
  const at = '2026-01-01T00:00:00.000Z';
  const largest = 2 ** 49;
  for (let i = 0; i < 40; i++) {
    const id = idFrom('vm', `vm-${String(i).padStart(16, '0')}`);
    const vm: records.VmRecord = {
      id,
      project,
      name: `vm-${i}`,
      labels: {},
      description: '',
      image: idFrom('image', 'img-0123456789abcdef'),
      interfaces: [
        { network: idFrom('network', 'net-0123456789abcdef'), mac: '42:00:00:00:00:01', address: '2001:db8::1' },
      ],
      cpus: 256,
      memory: i === 0 ? 2 ** 20 : largest,
      disk_size: largest,
      ssh_keys: [],
      power_state: 'stopped',
      delete_protection: false,
      generation: 1,
      created_at: at,
      updated_at: at,
    };
    await store.commit({ write: [put(records.vms, id, vm)] });
  }
  const list = await operator.list('vms', '?after=0');
  t.equal(list.items.length, 40);
  const { used } = (await operator.expect(200, 'GET', `/v1/projects/${project}/usage`)).body as unknown as {
    used: object;
  };
  t.match(used, { vms: 40, memory: `${39 * 2 ** 29 + 1}MiB`, disk: `${40 * 512}TiB` });
});

t.test('a project that an earlier version made unreadable with 1e999 is there again', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const { id } = await operator.create('projects', { name: 'poisoned', quota: { vms: 1, tokens: 5 } });
  const entry = await store.get(`projects/${id}`);
  const value = entry?.value.replace('"vms":1', '"vms":null').replace('"tokens":5', '"tokens":1e300') ?? '';
  await store.commit({ write: [{ put: `projects/${id}`, value }] });
  const now = await operator.get('projects', id, `?after=${entry?.revision}`);
  t.match(now, { name: 'poisoned', quota: { tokens: Number.MAX_SAFE_INTEGER } });
  t.same(Object.keys((now as unknown as { quota: object }).quota), ['tokens']);
  t.ok(await test.member(id));
  await operator.update('projects', id, { quota: { vms: 3 } });
});

/** Returns the smallest valid value of a record's schema. */
function sample(schema: Schema & { readonly required?: readonly string[] }): unknown {
  if (schema.enum) return schema.enum[0];
  switch (schema.type) {
    case 'string': {
      const prefix = /^\^([a-z]+)-/.exec(schema.pattern ?? '')?.[1];
      if (prefix) return `${prefix}-0123456789abcdef`;
      const digits = /^\^\[0-9a-f\]\{(\d+)\}\$$/.exec(schema.pattern ?? '')?.[1];
      return digits ? '0'.repeat(Number(digits)) : 'x';
    }
    case 'boolean':
      return true;
    case 'integer':
    case 'number':
      return 1;
    case 'array':
      return schema.items ? [sample(schema.items)] : [];
    default:
      return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, each]) => [name, sample(each)]));
  }
}

t.test('no record is written whose numbers could not be read back', async (t) => {
  const kinds = Object.values<unknown>(records).filter(
    (each): each is RecordKind => typeof each === 'object' && each !== null && 'prefix' in each,
  );
  let tried = 0;
  for (const kind of kinds) {
    const value = sample(kind.schema as Schema);
    t.doesNotThrow(() => put(kind, 'x', value), kind.prefix);
    for (const { path } of numbersIn(kind.schema as Schema)) {
      for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1n, '1']) {
        t.throws(() => put(kind, 'x', withAt(value, path, wrong)), InvalidRecordError, `${kind.prefix}${path}`);
        tried++;
      }
    }
  }
  t.ok(tried > 100, `${tried} numbers were tried`);
});
