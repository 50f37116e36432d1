/** Finding the one object that has a name. */
import type { Client, Item } from '../client/client.ts';
import { DiagnosticError } from '../framework/index.ts';
import type { ResourceSchema } from './fields.ts';
import { nouns } from './words.ts';

/**
 * The object of that name: the project's own, or else the only one that the token may see (as public images are).
 * Names are unique in a project only, so without one there may be several, which is an error.
 */
export async function findByName(
  client: Client,
  schema: ResourceSchema,
  name: string,
  project: string | undefined,
  signal: AbortSignal,
): Promise<Item | undefined> {
  const { items } = await client.list(schema.path, { name, limit: 10 }, signal);
  const scoped = schema.fields.project !== undefined;
  const own = scoped && project !== undefined ? items.filter((item) => item.project === project) : items;
  const found = own.length > 0 ? own : items;
  if (found.length > 1) {
    throw new DiagnosticError(
      `Several ${nouns(schema.noun)} are named "${name}"`,
      `${found.map((item) => `${item.id} in project ${String(item.project)}`).join(', ')}. Give the id instead${scoped ? ', or the project' : ''}.`,
      ['name'],
    );
  }
  return found[0];
}
