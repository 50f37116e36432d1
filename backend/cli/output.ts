/** The output of responses: lists as tables, objects as YAML, and everything as JSON on request. */
import { inUnits } from './amounts.ts';
import { details } from './details.ts';
import { type Names, namesIn } from './names.ts';
import { say, tell, writeOut } from './standard-output.ts';
import { columnsOf, type Item, table } from './table.ts';
import { visibleJson } from './terminal.ts';

/** The options of the output. */
export interface OutputOptions {
  readonly json?: boolean;
  /** Tables show ids instead of names. */
  readonly wide?: boolean;
}

const isObject = (value: unknown): value is Item =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Replaces the bytes of hosts by readable sizes. */
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

/** Prints a response of the API. */
export async function print(answer: unknown, { json = false, wide = false }: OutputOptions): Promise<void> {
  if (answer === undefined) return;
  if (json || !isObject(answer)) return say(visibleJson(answer, 2));
  const { items } = answer as { items?: readonly Item[] };
  const isList = Object.keys(answer as object).every((key) => ['items', 'next_page_token', 'revision'].includes(key));
  if (!Array.isArray(items) || !isList) return writeOut(document(answer, await namesIn(answer)));
  if (items.length === 0) return tell('(none)');
  const columns = columnsOf(items, wide);
  writeOut(table(columns, wide ? new Map() : await namesIn(columns)));
}

/** Prints responses about several objects: YAML documents, or a list as JSON. */
export async function printAll(answers: readonly unknown[], options: OutputOptions): Promise<void> {
  const objects = answers.filter(isObject);
  if (options.json) return print({ items: objects }, options);
  if (objects.length === 0) return;
  const names = await namesIn(objects);
  writeOut(objects.map((item) => document(item, names)).join('---\n'));
}
