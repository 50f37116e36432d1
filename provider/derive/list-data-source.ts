/** The plural data source of a resource: all objects that match a label selector, a name and a project. */
import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { completeItems } from '../client/omitted-fields.ts';
import { explain } from '../client/problem.ts';
import { type DataSourceDefinition, defineDataSource, type Values } from '../framework/index.ts';
import { listDataSourceAttributes, stateOf } from './attributes.ts';
import type { ResourceSchema } from './fields.ts';
import { nouns, pluralOf } from './nouns.ts';

/** Sorts the objects, so that the state does not depend on the order in the API's list. */
const byNameAndId = (a: Item, b: Item): number => {
  const [left, right] = [`${String(a.name)} ${a.id}`, `${String(b.name)} ${b.id}`];
  return left < right ? -1 : left > right ? 1 : 0;
};

/** Returns the attributes that restrict a list. */
const filtersOf = ({ fields, filters }: ResourceSchema): string[] => [
  ...(fields.labels ? ['selector'] : []),
  ...filters,
];

function filtersInWords(schema: ResourceSchema): string {
  const words = filtersOf(schema).map((name) => `\`${name}\``);
  return [words.slice(0, -1).join(', '), words.at(-1)].filter(Boolean).join(' and ');
}

/** Returns the data source that lists the objects of the resource. */
export function deriveListDataSource(schema: ResourceSchema): DataSourceDefinition<Values, Client> {
  const attributes = listDataSourceAttributes(schema);
  const names = new Set(Object.keys(attributes));
  const plural = pluralOf(schema);
  return defineDataSource<Values, Client>({
    description: `All ${nouns(schema.noun)} that the token of the provider may see and that match ${filtersInWords(schema)}, ordered by ${schema.fields.name ? 'name' : 'id'}. An empty list is no error.`,
    attributes,
    async read({ client, config, signal }) {
      const query: Record<string, string> = {};
      for (const filter of filtersOf(schema)) {
        const value = config[filter];
        if (typeof value === 'string') query[filter] = value;
      }
      try {
        const listed = (await client.listAll(schema.path, query, signal)).sort(byNameAndId);
        const items = await completeItems(client, schema.path, listed, signal);
        return {
          ids: items.map(({ id }) => id),
          [plural]: items.map((item) => stateOf(schema.fields, item) as Values),
        };
      } catch (error) {
        const what = nouns(schema.noun);
        throw explain(error, `${what.charAt(0).toUpperCase()}${what.slice(1)} cannot be listed`, names);
      }
    },
  });
}
