/**
 * Lists leave out fields that can be large, and show a digest in their place: `user_data_sha256` for `user_data`. So what
 * is known already need not be fetched again. A token that may not see such a field gets neither.
 */
import { createHash } from 'node:crypto';
import type { Caller, Item } from './item.ts';
import { isNotFound } from './problem.ts';

const suffix = '_sha256';

/** The fields that the item has a digest of, but not the value. */
const leftOut = (item: Item): string[] =>
  Object.keys(item).flatMap((name) => {
    const field = name.endsWith(suffix) ? name.slice(0, -suffix.length) : '';
    return field !== '' && item[field] === undefined ? [field] : [];
  });

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The item with all that the token may see; undefined when it has gone meanwhile. `known` is what it had before. */
export async function whole(
  client: Caller,
  path: string,
  item: Item,
  known: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): Promise<Item | undefined> {
  const missing = leftOut(item);
  if (missing.length === 0) return item;
  const remembered = missing.flatMap((name): [string, string][] => {
    const value = known[name];
    return typeof value === 'string' && digest(value) === item[name + suffix] ? [[name, value]] : [];
  });
  if (remembered.length === missing.length) return { ...item, ...Object.fromEntries(remembered) };
  try {
    return (await client.call('GET', `${path}/${encodeURIComponent(item.id)}`, { signal })) as Item;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Items fetched at the same time. */
const concurrency = 8;

/** The same for many; what has gone meanwhile is left out. */
export async function allWhole(client: Caller, path: string, items: readonly Item[], signal: AbortSignal) {
  const found: (Item | undefined)[] = [];
  const next = items.entries();
  const work = async () => {
    for (const [index, item] of next) found[index] = await whole(client, path, item, {}, signal);
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  return found.filter((item) => item !== undefined);
}
