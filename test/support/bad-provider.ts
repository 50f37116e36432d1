/** A provider whose handlers break the rules of handlers. The name of an object selects the fault. */
import {
  attribute,
  DiagnosticError,
  defineFunction,
  defineResource,
  type ProviderDefinition,
} from '../../provider/framework/index.ts';
import { objectType } from '../../provider/framework/schema.ts';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import { isWhollyKnown, UNKNOWN, type Values } from '../../provider/protocol/values.ts';

interface Thing {
  id: string;
  name: string;
  list: string[] | null;
}

export const thing = defineResource<Thing, { log: string[] }>({
  description: 'A thing.',
  attributes: {
    id: attribute.string({ description: 'Id.', computed: true }),
    name: attribute.string({ description: 'Name.', required: true }),
    list: attribute.list('string', { description: 'List.', optional: true, computed: true }),
  },
  validate({ config }) {
    if (config.name === 'validate') throw new Error('bug in validate');
  },
  modifyPlan({ planned, config }) {
    if (config.name === 'plan') throw new Error('bug in modifyPlan');
    if (config.name === 'contradict') planned.name = 'something else';
    if (config.name === 'type') Object.assign(planned, { list: 'not a list' });
  },
  async create({ planned, save, private: kept, signal }) {
    if (planned.name === 'early') throw new Error('bug in create');
    if (planned.name === 'forgotten') return { name: 'forgotten' };
    if (planned.name === 'wrong type') return { id: 'x', list: [1] as unknown as string[] };
    if (planned.name === 'extra') return { id: 'x', list: [], more: 1 } as Partial<Thing>;
    if (planned.name === 'nothing') return undefined as unknown as Partial<Thing>;
    if (planned.name === 'private') kept.size = 10n;
    save({ id: 'saved' });
    if (planned.name === 'cyclic') {
      const list: unknown[] = [];
      list.push(list);
      return { id: 'x', list: list as string[] };
    }
    if (planned.name === 'sort') (planned.list as string[]).sort();
    if (planned.name === 'wait') {
      started.add('wait');
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    }
    if (planned.name === 'late') throw new DiagnosticError('It broke', 'Badly.', ['name']);
    if (planned.name === 'half a surrogate') throw new Error('\ud800');
    if (planned.name === 'odd') throw 'a string';
    return { id: 'x', ...(planned.list === UNKNOWN && { list: [] }) };
  },
  async read({ state }) {
    if (state.name === 'read') throw new Error('bug in read');
    return state.name === 'gone' ? undefined : {};
  },
  async delete({ state }) {
    if (state.name === 'delete') throw new Error('bug in delete');
  },
  identity: {
    version: 2,
    attributes: { id: { type: 'string', description: 'Id.' }, name: { type: 'string', description: 'Name.' } },
    of({ id, name }) {
      if (name === 'no identity') throw new Error('bug in identity');
      return { id, name };
    },
    importId: ({ id }) => String(id),
    upgrade: {
      0: ({ key }) => ({ id: key }),
      1: ({ id }) => {
        if (id === 'odd') throw new Error('bug in upgrade');
        return { id, name: `named ${id}` };
      },
    },
  },
  async moveFrom({ typeName, state, private: kept }, { private: own }) {
    if (typeName === 'old_broken') throw new Error('bug in moveFrom');
    if (typeName !== 'old_thing') return undefined;
    own.since = kept.since;
    return { id: String(state.id), name: String(state.title) };
  },
});

/** The started handlers by name, and the stopped ones. */
export const started = new Set<string>();
export const stopped = new Set<string>();

/** Returns a promise that never settles by itself. */
const sleeper = defineResource<{ id: string; name: string }, unknown>({
  description: 'Waits.',
  attributes: {
    id: attribute.string({ description: 'Id.', computed: true }),
    name: attribute.string({ description: 'Name.', required: true }),
  },
  create: async () => ({}),
  async read({ state: { name }, signal }) {
    started.add(name);
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    stopped.add(name);
    throw signal.reason;
  },
  delete: async () => {},
});
export const SLEEPER = objectType(sleeper.attributes);

export const provider: ProviderDefinition<{ log: string[] }> = {
  name: 'bad',
  address: 'bad.localhost/test/bad',
  version: '0.0.1',
  description: 'x',
  attributes: { mode: attribute.string({ description: 'x', optional: true }) },
  async configure({ config }) {
    if (config.mode === 'throw') throw new Error('bug in configure');
    return isWhollyKnown(config) ? { log: [] } : undefined;
  },
  resources: {
    thing,
    sleeper,
    broken: async () => {
      throw new Error('this file does not load');
    },
    misdefined: { ...thing, attributes: { Bad: attribute.string({ description: 'x' }) } },
  },
  functions: {
    fail: {
      summary: 'x',
      description: 'x',
      parameters: [{ name: 'a', type: 'string', description: 'x' }],
      returns: 'string',
      run: () => {
        throw new Error('bug in a function.');
      },
    },
    count: defineFunction<readonly (string | null)[]>({
      summary: 'x',
      description: 'x',
      parameters: [
        {
          name: 'first',
          type: 'string',
          description: 'x',
          validate: (v) => (v === 'bad' ? 'not this one' : undefined),
        },
      ],
      variadic: { name: 'rest', type: ['list', 'string'], description: 'x', allowNull: true },
      returns: 'number',
      run: (args) => args.length,
    }),
  },
};

export const TYPE = objectType(thing.attributes);
export const value = (v: Values | null) => ({ msgpack: encodeValue(TYPE, v) });
export const known = (message: { msgpack: Uint8Array } | undefined) =>
  message && (decodeValue(TYPE, message.msgpack) as Values);
export const bare = (name: string): Values => ({ id: null, name, list: null });
export const planned = (name: string): Values => ({ id: UNKNOWN, name, list: UNKNOWN });
