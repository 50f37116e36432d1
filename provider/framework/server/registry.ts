/** The definitions of a provider by full type name, each loaded and checked when it is first used. */
import type { Attributes } from '../attributes.ts';
import {
  checkAttributes,
  type ObjectType,
  objectType,
  type SchemaKind,
  type Timeouts,
  timeoutsAttribute,
} from '../schema.ts';
import type {
  DataSourceDefinition,
  EphemeralDefinition,
  FunctionDefinition,
  Lazy,
  ProviderDefinition,
  ResourceDefinition,
} from '../types.ts';

/** A definition ready for use. `attributes` includes those that the framework adds. */
export interface Entry<Definition> {
  readonly typeName: string;
  readonly definition: Definition;
  readonly attributes: Attributes;
  readonly type: ObjectType;
}

/** A definition for the server, which knows neither its State nor its Client. */
export type AnyResource = ResourceDefinition<object, unknown>;
export type AnyDataSource = DataSourceDefinition<object, unknown>;
export type AnyEphemeral = EphemeralDefinition<object, unknown>;
export type AnyFunction = FunctionDefinition;
export type AnyProvider = ProviderDefinition<unknown, object>;

interface Source {
  attributes: Attributes;
  timeouts?: Timeouts;
}

function compile<D extends Source>(kind: SchemaKind, typeName: string, definition: D): Entry<D> {
  const { timeouts } = definition;
  if (timeouts && Object.hasOwn(definition.attributes, 'timeouts')) {
    throw new Error(`${typeName} has both an attribute "timeouts" and a definition of timeouts`);
  }
  const attributes = timeouts
    ? { ...definition.attributes, timeouts: timeoutsAttribute(timeouts) }
    : definition.attributes;
  checkAttributes(kind, attributes, typeName);
  return { typeName, definition, attributes, type: objectType(attributes) };
}

class Kind<D> {
  private readonly loaded = new Map<string, Promise<D>>();
  private readonly sources: ReadonlyMap<string, () => Promise<D>>;

  constructor(sources: ReadonlyMap<string, () => Promise<D>>) {
    this.sources = sources;
  }

  get names(): string[] {
    return [...this.sources.keys()];
  }

  /** Returns the entry of this name; undefined if the provider has none. @throws Error if its definition is invalid */
  async find(name: string): Promise<D | undefined> {
    let entry = this.loaded.get(name);
    if (!entry) {
      const source = this.sources.get(name);
      if (!source) return undefined;
      entry = source();
      this.loaded.set(name, entry);
    }
    return entry;
  }

  async all(): Promise<[string, D][]> {
    const list: [string, D][] = [];
    for (const name of this.names) {
      const entry = await this.find(name);
      if (entry) list.push([name, entry]);
    }
    return list;
  }
}

async function load<T>(lazy: Lazy<T>): Promise<T> {
  return typeof lazy === 'function' ? await (lazy as () => Promise<T>)() : lazy;
}

export class Registry {
  readonly provider: Entry<AnyProvider>;
  readonly resources: Kind<Entry<AnyResource>>;
  readonly dataSources: Kind<Entry<AnyDataSource>>;
  readonly ephemeral: Kind<Entry<AnyEphemeral>>;
  readonly functions: Kind<AnyFunction>;

  constructor(provider: AnyProvider) {
    this.provider = compile('provider', `provider ${provider.name}`, provider);
    const kind = <D extends Source>(what: SchemaKind, lazies: Readonly<Record<string, Lazy<D>>> = {}) =>
      new Kind<Entry<D>>(
        new Map(
          Object.entries(lazies).map(([suffix, lazy]) => {
            const typeName = `${provider.name}_${suffix}`;
            return [typeName, async () => compile(what, typeName, await load(lazy))];
          }),
        ),
      );
    this.resources = kind<AnyResource>('resource', provider.resources);
    this.dataSources = kind<AnyDataSource>('data source', provider.dataSources);
    this.ephemeral = kind<AnyEphemeral>('ephemeral resource', provider.ephemeral);
    this.functions = new Kind<AnyFunction>(
      new Map(
        Object.entries(provider.functions ?? {}).map(([name, lazy]) => [
          name,
          async () => (await load(lazy)) as unknown as AnyFunction,
        ]),
      ),
    );
  }
}
