/** The data source of a resource: finds one object by id or by name. */
import type { Client } from '../client/client.ts';
import { completeItem } from '../client/omitted-fields.ts';
import { explain } from '../client/problem.ts';
import {
  type DataSourceDefinition,
  DiagnosticError,
  defineDataSource,
  UNKNOWN,
  type Values,
} from '../framework/index.ts';
import { dataSourceAttributes, stateOf } from './attributes.ts';
import type { ResourceSchema } from './fields.ts';
import { findByName } from './find.ts';
import { aNoun, nounInSentence, nounWords } from './nouns.ts';

/** Returns the data source that finds one object of the resource. */
export function deriveDataSource(schema: ResourceSchema): DataSourceDefinition<Values, Client> {
  const attributes = dataSourceAttributes(schema);
  const names = new Set(Object.keys(attributes));
  return defineDataSource<Values, Client>({
    description: `${schema.description}\n\nFinds ${aNoun(schema.noun)} by its id or by its name.`,
    attributes,
    validate({ config, diagnostics }) {
      const given = ['id', 'name'].filter((name) => config[name] !== null);
      if (given.length === 0)
        diagnostics.error(
          'Set `id` or `name`',
          `The data source needs one of them to find the ${nounWords(schema.noun)}.`,
        );
      if (given.length === 2 && config.id !== UNKNOWN && config.name !== UNKNOWN) {
        diagnostics.error('Set `id` or `name`, not both', 'Remove one of them: each is sufficient.', ['name']);
      }
    },
    async read({ client, config, signal }) {
      const { id, name, project } = config;
      const by = typeof id === 'string' ? `the id ${id}` : `the name "${String(name)}"`;
      const given = typeof project === 'string' ? project : undefined;
      const find = async () =>
        findByName(
          client,
          schema,
          String(name),
          {
            project: given ?? (await client.project(signal)),
            only: given !== undefined,
            instead: `\`id\`${schema.fields.project ? ' or `project`' : ''}`,
            path: ['name'],
          },
          signal,
        );
      try {
        const found = typeof id === 'string' ? await client.read(schema.path, id, signal) : await find();
        const item = found && (await completeItem(client, schema.path, found, {}, signal));
        if (item && (given === undefined || item.project === given)) return stateOf(schema.fields, item) as Values;
      } catch (error) {
        throw explain(error, `${nounInSentence(schema.noun)} cannot be read`, names);
      }
      throw new DiagnosticError(
        `There is no ${nounWords(schema.noun)} with ${by}`,
        `It does not exist${given === undefined ? '' : ` in project ${given}`}, or the token of the provider may not see it.`,
        [typeof id === 'string' ? 'id' : 'name'],
      );
    },
  });
}
