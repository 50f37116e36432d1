/** Two data sources for each kind of object: the first finds one object, the second lists objects. And quotes and costs. */
import type { Client } from '../client/client.ts';
import type { DataSourceDefinition, Lazy, Values } from '../framework/index.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';
import { findable, plurals, schemaOf } from '../schema/resources.gen.ts';

type Definition = Lazy<DataSourceDefinition<Values, Client, PlanSession>>;

/** The data sources of one object that have behaviour of their own. */
const special: Readonly<Record<string, Definition>> = {
  image: () => import('./image.ts').then((module) => module.image),
  bill: () => import('./bill.ts').then((module) => module.bill),
};

export const dataSources: Readonly<Record<string, Definition>> = Object.fromEntries([
  ...findable.flatMap((noun): [string, Definition][] => [
    [noun, special[noun] ?? (async () => (await import('../derive/data-source.ts')).deriveDataSource(schemaOf(noun)))],
    [plurals[noun], async () => (await import('../derive/list-data-source.ts')).deriveListDataSource(schemaOf(noun))],
  ]),
  ['quote', () => import('./quote.ts').then((module) => module.quote)],
  ['costs', () => import('./costs.ts').then((module) => module.costs)],
]);
