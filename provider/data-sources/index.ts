/** A data source for everything that has a name, derived from openapi.yaml. */
import type { Client } from '../client/client.ts';
import type { DataSourceDefinition, Lazy, Values } from '../framework/index.ts';
import { findable, schemaOf } from '../resources/schema.gen.ts';

export const dataSources: Readonly<Record<string, Lazy<DataSourceDefinition<Values, Client>>>> = Object.fromEntries(
  findable.map((noun) => [
    noun,
    async () => (await import('../derive/data-source.ts')).deriveDataSource(schemaOf(noun)),
  ]),
);
