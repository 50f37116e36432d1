/**
 * Completes items of lists. A list leaves out large fields and contains their digests: `user_data_sha256` for
 * `user_data`. A caller that knows the value therefore needs no further request. A token that may not see the field
 * gets neither value nor digest.
 */
import { createHash } from 'node:crypto';
import type { Caller, Item } from './item.ts';
import { isNotFound } from './problem.ts';

const suffix = '_sha256';

/** Returns the fields of which the item has only the digest. */
const omittedFields = (item: Item): string[] =>
  Object.keys(item).flatMap((name) => {
    const field = name.endsWith(suffix) ? name.slice(0, -suffix.length) : '';
    return field !== '' && item[field] === undefined ? [field] : [];
  });

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/**
 * Returns the item with all fields that the token may see; undefined if the object is gone meanwhile.
 * @param known earlier values of the fields
 */
export async function completeItem(
  client: Caller,
  path: string,
  item: Item,
  known: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): Promise<Item | undefined> {
  const missing = omittedFields(item);
  if (missing.length === 0) return item;
  const knownFields = missing.flatMap((name): [string, string][] => {
    const value = known[name];
    return typeof value === 'string' && digest(value) === item[name + suffix] ? [[name, value]] : [];
  });
  if (knownFields.length === missing.length) return { ...item, ...Object.fromEntries(knownFields) };
  try {
    return (await client.call('GET', `${path}/${encodeURIComponent(item.id)}`, { signal })) as Item;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** The maximum number of concurrent requests. */
const maxConcurrentRequests = 8;

/** Returns the complete items, without objects that are gone meanwhile. */
export async function completeItems(client: Caller, path: string, items: readonly Item[], signal: AbortSignal) {
  const found: (Item | undefined)[] = [];
  const next = items.entries();
  const work = async () => {
    for (const [index, item] of next) found[index] = await completeItem(client, path, item, {}, signal);
  };
  await Promise.all(Array.from({ length: maxConcurrentRequests }, work));
  return found.filter((item) => item !== undefined);
}
