/** A data source for everything that has a name, derived from openapi.yaml. */
import type { Client } from '../client/client.ts';
import type { DataSourceDefinition, Lazy, Values } from '../framework/index.ts';
import { schemas } from '../resources/schema.gen.ts';

export const dataSources: Readonly<Record<string, Lazy<DataSourceDefinition<Values, Client>>>> = Object.fromEntries(
  Object.values(schemas)
    .filter((schema) => schema.findable)
    .map((schema) => [schema.noun, async () => (await import('../derive/data-source.ts')).deriveDataSource(schema)]),
);
