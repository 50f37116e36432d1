/** The data source of a resource: finds one object by id, by name, or by a further attribute. */
import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
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

/** A further attribute that finds an object. */
export interface Finder {
  /** The effect of the attribute, for the documentation: a clause after the name of the attribute. */
  readonly description: string;
  /** Returns the object for the value of the attribute; undefined if there is none. */
  find(search: {
    readonly client: Client;
    readonly value: string;
    /** The configured project, to which the object must belong. */
    readonly owner: string | undefined;
    /** The project of the provider or of its token. */
    readonly project: string | undefined;
    readonly signal: AbortSignal;
  }): Promise<Item | undefined>;
}

/** Joins words: `a`, `a or b`, `a, b or c`. */
const alternatives = (words: readonly string[]): string =>
  [words.slice(0, -1).join(', '), words.at(-1)].filter(Boolean).join(' or ');

/**
 * Returns the data source that finds one object of the resource.
 * @param finders further attributes that find an object, by name
 */
export function deriveDataSource(
  schema: ResourceSchema,
  finders: Readonly<Record<string, Finder>> = {},
): DataSourceDefinition<Values, Client> {
  const keys = ['id', ...(schema.fields.name ? ['name'] : []), ...Object.keys(finders)];
  const attributes = dataSourceAttributes(schema, Object.keys(finders));
  const names = new Set(Object.keys(attributes));
  const quoted = alternatives(keys.map((key) => `\`${key}\``));
  const further = Object.entries(finders).map(([key, { description }]) => ` \`${key}\` ${description}.`);
  return defineDataSource<Values, Client>({
    description: `${schema.description}\n\nFinds ${aNoun(schema.noun)} ${alternatives(keys.map((key) => `by its ${key}`))}.${further.join('')}`,
    attributes,
    validate({ config, diagnostics }) {
      // Without names, Terraform itself demands the id.
      if (keys.length === 1) return;
      const given = keys.filter((key) => config[key] !== null);
      if (given.length === 0)
        diagnostics.error(`Set ${quoted}`, `The data source needs one of them to find the ${nounWords(schema.noun)}.`);
      const known = given.filter((key) => config[key] !== UNKNOWN);
      const [, second] = known;
      if (second !== undefined) {
        const only = keys.length === 2 ? 'not both' : 'only one of them';
        diagnostics.error(`Set ${quoted}, ${only}`, 'Remove the others: one is sufficient.', [second]);
      }
    },
    async read({ client, config, signal }) {
      const { project } = config;
      const given = typeof project === 'string' ? project : undefined;
      const key = keys.find((each) => typeof config[each] === 'string') ?? 'name';
      const value = String(config[key]);
      const find = async (): Promise<Item | undefined> => {
        if (key === 'id') return client.read(schema.path, value, signal);
        const home = given ?? (await client.project(signal));
        const finder = finders[key];
        // The owner may be another project than that of the provider.
        if (finder) return finder.find({ client, value, owner: given, project: await client.project(signal), signal });
        const instead = `\`id\`${schema.fields.project ? ' or `project`' : ''}`;
        return findByName(
          client,
          schema,
          value,
          { project: home, only: given !== undefined, instead, path: ['name'] },
          signal,
        );
      };
      try {
        const found = await find();
        const item = found && (await completeItem(client, schema.path, found, {}, signal));
        if (item && (given === undefined || item.project === given)) return stateOf(schema.fields, item) as Values;
      } catch (error) {
        throw explain(error, `${nounInSentence(schema.noun)} cannot be read`, names);
      }
      const within = given === undefined ? '' : ` in project ${given}`;
      const finder = finders[key];
      if (finder) {
        throw new DiagnosticError(
          `There is no ${nounWords(schema.noun)} for the ${key} "${value}"`,
          `\`${key}\` ${finder.description}. There is none${within} that the token of the provider may see.`,
          [key],
        );
      }
      throw new DiagnosticError(
        `There is no ${nounWords(schema.noun)} with the ${key} ${key === 'id' ? value : `"${value}"`}`,
        `It does not exist${within}, or the token of the provider may not see it.`,
        [key],
      );
    },
  });
}
