/** `ucloud quote`: the cost of objects before they exist. */
import type { Command } from 'commander';
import { type QuoteResult, quotedObjects } from '../contract/resources/quotes.ts';
import { call } from './client.ts';
import { readBody } from './input-files.ts';
import { resolveNames } from './names.ts';
import { type OutputOptions, print } from './output.ts';
import { FieldOption, optionOf, type Texts } from './request.ts';
import { projectNamed } from './resources.ts';
import { tell, writeOut } from './standard-output.ts';
import { table } from './table.ts';
import { type JsonSchema, parseValue } from './values.ts';

/** The options with one object each, by the field of a quote. */
const options = { vms: 'vm', volumes: 'volume', snapshots: 'snapshot', prefixes: 'prefix' } as const;
type Kind = keyof typeof options;
const kinds = Object.keys(options) as Kind[];

const itemSchema = (kind: Kind): JsonSchema => (quotedObjects[kind] as JsonSchema).items ?? {};

/** Asks for a quote. */
const ask = async (body: object): Promise<QuoteResult> =>
  (await call({ method: 'POST', path: '/v1/quotes', body, fieldName: optionOf })) as QuoteResult;

async function printQuote(quote: QuoteResult, output: OutputOptions): Promise<void> {
  if (output.json) return print(quote, output);
  const { currency, lines, monthly, once } = quote;
  if (currency === undefined) return tell('There are no prices: everything is free.');
  const column = (title: string, values: readonly unknown[]) => ({ title, values });
  writeOut(
    table(
      [
        column('product', [...lines.map(({ name }) => name), 'total']),
        column('quantity', [...lines.map(({ quantity }) => quantity), '']),
        column('unit', [...lines.map(({ unit }) => unit), '']),
        column(`${currency} per month`, [...lines.map((line) => line.monthly), monthly]),
        column(`${currency} once`, [...lines.map((line) => line.once), once]),
      ],
      new Map(),
    ),
  );
}

/** Adds the options of a quote to the command `quote`. */
export function addQuote(program: Command): void {
  const quote = program.commands.find((command) => command.name() === 'quote');
  if (!quote) throw new Error('there is no command quote');
  for (const kind of kinds) {
    const description = `${options[kind]} of the quote. May be repeated. Fields: ${Object.keys(itemSchema(kind).properties ?? {}).join(', ')}`;
    quote.addOption(new FieldOption(options[kind], itemSchema(kind), description));
  }
  const text = { type: 'string' };
  const project = 'project that pays. Default: that of the credentials';
  quote.addOption(new FieldOption('project', { ...text, 'x-reference': 'project' }, project));
  quote.addOption(new FieldOption('currency', text, 'currency. Default: that of the billing account'));
  quote.option('--body <file>', 'read the whole quote from a JSON file; - for standard input');
  quote.option('--json', 'print JSON');
  quote.action(async (given: Texts & OutputOptions & { readonly body?: string }) => {
    const owner = await projectNamed(given.project?.at(-1));
    const currency = given.currency?.at(-1);
    const objects = kinds.flatMap((kind) => {
      const texts = given[options[kind]];
      return texts ? [[kind, texts.map((each) => parseValue(itemSchema(kind), options[kind], [each]))] as const] : [];
    });
    if (given.body === undefined && objects.length === 0) {
      throw new Error('no option names an object; see --help');
    }
    if (given.body !== undefined && objects.length > 0)
      throw new Error(`--body is the whole quote and cannot be combined with --${options[objects[0]?.[0] ?? 'vms']}`);
    const named = Object.fromEntries(
      await Promise.all(
        objects.map(async ([kind, list]) => [kind, await resolveNames(quotedObjects[kind] as JsonSchema, list, owner)]),
      ),
    );
    const body = given.body === undefined ? named : readBody(given.body);
    await printQuote(
      await ask({
        ...(owner !== undefined && { project: owner }),
        ...(currency !== undefined && { currency }),
        ...body,
      }),
      given,
    );
  });
}
