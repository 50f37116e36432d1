/** Finding the one object that has a name. */
import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { type AttributePath, DiagnosticError } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import type { ResourceSchema } from './fields.ts';
import { nouns } from './nouns.ts';

export interface Where {
  /** Id of the project in which it is looked for first. */
  readonly project: string | undefined;
  /** And nowhere else. */
  readonly only?: boolean;
  /** The advice if several objects have the name: `the id`. */
  readonly instead: string;
  /** Where the name was given. */
  readonly path?: AttributePath;
}

/** Objects that an error names; there may be as many as projects. */
const mostNamed = 10;

/**
 * The object of that name: the project's own, or else the only one that the token may see (as public images are).
 * Names are unique in a project only, so without one there may be several, which is an error.
 */
export async function findByName(
  client: Client,
  schema: ResourceSchema,
  name: string,
  { project, only = false, instead, path }: Where,
  signal: AbortSignal,
): Promise<Item | undefined> {
  const items = await client.listAll(schema.path, { name }, signal);
  const scoped = schema.fields.project !== undefined && project !== undefined;
  const own = scoped ? items.filter((item) => item.project === project) : [];
  const found = own.length > 0 || (scoped && only) ? own : items;
  if (found.length > 1) {
    const named = found.slice(0, mostNamed).map((item) => `${item.id} in project ${String(item.project)}`);
    const more = found.length - named.length;
    throw new DiagnosticError(
      `Several ${nouns(schema.noun)} are named "${name}"`,
      `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}. Give ${instead} instead.`,
      path,
    );
  }
  return found[0];
}

/**
 * Returns the object for the text of an import that is no id: `web`, or `acme/web` for an object of a project. The project
 * is a name or an id. Undefined if there is no such object.
 */
export async function findToImport(
  client: Client,
  schema: ResourceSchema,
  text: string,
  signal: AbortSignal,
): Promise<Item | undefined> {
  const instead = 'the id, or the project and the name as `project/name`,';
  // Neither names nor ids have a slash.
  const slash = schema.fields.project === undefined ? -1 : text.indexOf('/');
  if (slash < 0) {
    return findByName(client, schema, text, { project: await client.project(signal), instead }, signal);
  }
  const [owner, name] = [text.slice(0, slash), text.slice(slash + 1)];
  const project = await idOfProject(client, owner, signal);
  if (project === undefined) {
    throw new DiagnosticError(
      `There is no project ${owner}`,
      'It does not exist, or the token of the provider may not know of it.',
    );
  }
  return findByName(client, schema, name, { project, only: true, instead }, signal);
}

async function idOfProject(client: Client, text: string, signal: AbortSignal): Promise<string | undefined> {
  const schema = schemaOf('project');
  const isId = new RegExp(schema.fields.id?.pattern ?? '^$').test(text);
  const item = isId
    ? await client.read(schema.path, text, signal)
    : (await client.list(schema.path, { name: text }, signal)).items[0];
  return item?.id;
}
