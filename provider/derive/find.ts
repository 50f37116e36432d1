/** Finds the object with a name. */
import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { type AttributePath, DiagnosticError } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import type { ResourceSchema } from './fields.ts';
import { nouns } from './nouns.ts';

/** The place of the search, and texts for its errors. */
export interface Where {
  /** The id of the project in which the search begins. */
  readonly project: string | undefined;
  /** True if the search ends in that project. */
  readonly only?: boolean;
  /** The advice if several objects have the name: `the id`. */
  readonly instead: string;
  /** The attribute with the name. */
  readonly path?: AttributePath;
}

/** The maximum number of objects in an error, because each project may have an object of the name. */
const maxNamed = 10;

/**
 * Returns the object of the name: the object of the project, else the only object that the token may see, or the only public
 * one if objects can be public, such as images. An image that another project shares or keeps for itself is never chosen:
 * its owner could give it the name of a well-known image. Names are unique only in a project. Undefined if there is no such object.
 * @throws DiagnosticError if several objects have the name; ApiError; ConnectionError
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
  const others = items.filter(({ visibility, shared }) =>
    scoped ? visibility === undefined || visibility === 'public' : shared !== true,
  );
  const found = own.length > 0 || (scoped && only) ? own : others;
  if (found.length > 1) {
    const named = found.slice(0, maxNamed).map((item) => `${item.id} in project ${String(item.project)}`);
    const more = found.length - named.length;
    throw new DiagnosticError(
      `Several ${nouns(schema.noun)} are named "${name}"`,
      `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}. Use ${instead} instead.`,
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
      'It does not exist, or the token of the provider may not see it.',
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
