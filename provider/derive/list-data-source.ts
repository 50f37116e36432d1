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

/** The attributes that restrict a list, if the resource has the field. */
const filters = ['name', 'project', 'family'];

function filtersOf({ fields }: ResourceSchema): string {
  const present = ['selector', ...filters.filter((name) => fields[name])].map((name) => `\`${name}\``);
  return `${present.slice(0, -1).join(', ')} and ${present.at(-1)}`;
}

/** Returns the data source that lists the objects of the resource. */
export function deriveListDataSource(schema: ResourceSchema): DataSourceDefinition<Values, Client> {
  const attributes = listDataSourceAttributes(schema);
  const names = new Set(Object.keys(attributes));
  const plural = pluralOf(schema);
  return defineDataSource<Values, Client>({
    description: `All ${nouns(schema.noun)} that the token of the provider may see and that match ${filtersOf(schema)}, ordered by name. An empty list is no error.`,
    attributes,
    async read({ client, config, signal }) {
      const query: Record<string, string> = {};
      for (const filter of ['selector', ...filters]) {
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
