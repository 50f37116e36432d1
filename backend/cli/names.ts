/** Translates names of users into ids of the API, and ids into names. */

import { idPrefixes } from '../contract/fields.ts';
import { endpoints } from '../contract/index.ts';
import { call } from './client.ts';
import type { Credentials } from './credentials.ts';
import { type JsonSchema, solid } from './values.ts';

const idForm = /^([a-z]+)-[0-9a-hjkmnp-tv-z]{16}$/;
const listOf = (noun: string) => endpoints.find(({ id }) => id === `${noun}_list`);
/** Returns the noun for texts: `SSH key`. */
export const inWords = (noun: string): string =>
  noun
    .replaceAll('_', ' ')
    .replace(/^vm\b/, 'VM')
    .replace(/^ssh\b/, 'SSH');

interface Named {
  readonly id: string;
  readonly name?: string;
  readonly project?: string;
  readonly visibility?: string;
  readonly shared?: boolean;
}

/** The form in which a user gives the newest image of a family. Names have no slash. */
const familyForm = /^family\/(.+)$/s;

async function newestOf(
  family: string,
  project: string | undefined,
  credentials: Credentials | undefined,
): Promise<string> {
  const path = `/v1/image-families/${encodeURIComponent(family)}`;
  const { id } = (await call({ method: 'GET', path, query: { project } }, credentials)) as Named;
  return id;
}

/**
 * Returns the id of an object that the user gives by id or name, or of an image that the user gives as `family/<name>`. An object of the project comes before a public one.
 * @throws Error if no object or several have the name
 */
export async function idOf(
  noun: string,
  text: string,
  project: string | undefined,
  credentials?: Credentials,
): Promise<string> {
  // An empty variable of a script would give the path of the list.
  if (text.trim() === '') throw new Error(`"${text}" is not an id or name`);
  const list = listOf(noun);
  const family = noun === 'image' ? familyForm.exec(text)?.[1] : undefined;
  if (family !== undefined) return newestOf(family, project, credentials);
  if (idForm.test(text) || !list?.query?.properties.name) return text;
  const asked = { method: 'GET', path: list.path, query: { name: text } };
  const { items } = (await call(asked, credentials)) as { items: readonly Named[] };
  const scoped = list.query.properties.project !== undefined && project !== undefined;
  const own = items.filter((item) => item.project === project);
  const open = items.filter(({ visibility }) => visibility === 'public');
  // The owner of a shared image could give it the name of a well-known one.
  const chosen = items.filter(({ shared }) => shared !== true);
  const [found, ...others] = !scoped ? chosen : own.length > 0 ? own : open;
  if (!found) throw new Error(`there is no ${inWords(noun)} with the id or name "${text}"`);
  if (others.length > 0)
    throw new Error(
      `${others.length + 1} objects (${inWords(noun)}) have the name "${text}": use the id, or set --project`,
    );
  return found.id;
}

/** Replaces names by ids in all fields with a reference. */
export async function resolveNames(schema: JsonSchema, value: unknown, project: string | undefined): Promise<unknown> {
  const inner = solid(schema);
  if (typeof value === 'string') {
    const noun = inner['x-reference'];
    return noun ? idOf(noun, value, project) : value;
  }
  if (Array.isArray(value)) {
    return Promise.all(value.map((item) => resolveNames(inner.items ?? {}, item, project)));
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = await Promise.all(
    Object.entries(value).map(
      async ([key, part]) => [key, await resolveNames(inner.properties?.[key] ?? {}, part, project)] as const,
    ),
  );
  return Object.fromEntries(entries);
}

/** Names by id. */
export type Names = ReadonlyMap<string, string>;

/** The number of ids in one request. */
const batch = 100;
/** The maximum number of ids per kind that are looked up. A list with more references shows ids. */
const most = 500;
/** The maximum time for names in milliseconds. They are a convenience. */
const longest = 3000;

/** Collects the ids in the value, except its own id. */
function idsIn(value: unknown, found: Set<string>): Set<string> {
  if (typeof value === 'string') {
    if (idForm.test(value)) found.add(value);
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, part] of Object.entries(value)) if (key !== 'id') idsIn(part, found);
  }
  return found;
}

/** Returns the names of all objects that the response refers to, as far as the API shows them. */
export async function namesIn(answer: unknown): Promise<Names> {
  const names = new Map<string, string>();
  const byPrefix = Map.groupBy(idsIn(answer, new Set()), (id) => idForm.exec(id)?.[1] ?? '');
  const lookups = [...byPrefix].flatMap(([prefix, ids]) => {
    const noun = Object.entries(idPrefixes).find(([, own]) => own === prefix)?.[0];
    const list = noun === undefined ? undefined : listOf(noun);
    if (!list?.query?.properties.ids || !list.resource || ids.length > most) return [];
    return Array.from({ length: Math.ceil(ids.length / batch) }, async (_none, i) => {
      const some = ids.slice(i * batch, (i + 1) * batch);
      const query = { ids: some.join(','), limit: String(batch) };
      const { items } = (await call({ method: 'GET', path: list.path, query })) as { items: readonly Named[] };
      for (const { id, name } of items) if (name) names.set(id, name);
    });
  });
  const limit = Promise.withResolvers<void>();
  const timer = setTimeout(limit.resolve, longest);
  await Promise.race([Promise.allSettled(lookups), limit.promise]);
  clearTimeout(timer);
  return new Map(names);
}
