/** Answers of the API: lists as tables, objects as YAML, all of it as JSON where that is asked for. */
import { inUnits } from './amounts.ts';
import { details } from './details.ts';
import { type Names, namesIn } from './names.ts';
import { say, tell, writeOut } from './standard-output.ts';
import { columnsOf, type Item, table } from './table.ts';
import { visibleJson } from './terminal.ts';

export interface OutputOptions {
  readonly json?: boolean;
  /** Ids in tables, in place of names. */
  readonly wide?: boolean;
}

const isObject = (value: unknown): value is Item =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Hosts count in bytes, which nobody can read. */
const readable = (item: Item): Item =>
  Object.fromEntries(
    Object.entries(item).map(([key, value]) => [
      key,
      (key === 'capacity' || key === 'allocated') && isObject(value)
        ? Object.fromEntries(
            Object.entries(value).map(([part, amount]) => [part, part === 'cpus' ? amount : inUnits(Number(amount))]),
          )
        : value,
    ]),
  );

const document = (item: Item, names: Names): string => details(readable(item), names);

export async function print(answer: unknown, { json = false, wide = false }: OutputOptions): Promise<void> {
  if (answer === undefined) return;
  if (json || !isObject(answer)) return say(visibleJson(answer, 2));
  const { items } = answer as { items?: readonly Item[] };
  if (!Array.isArray(items)) return writeOut(document(answer, await namesIn(answer)));
  if (items.length === 0) return tell('(none)');
  const columns = columnsOf(items, wide);
  writeOut(table(columns, wide ? new Map() : await namesIn(columns)));
}

/** Answers about several objects: YAML documents one after the other, or the form that a list has as JSON. */
export async function printAll(answers: readonly unknown[], options: OutputOptions): Promise<void> {
  const objects = answers.filter(isObject);
  if (options.json) return print({ items: objects }, options);
  if (objects.length === 0) return;
  const names = await namesIn(objects);
  writeOut(objects.map((item) => document(item, names)).join('---\n'));
}
