/** `ucloud cost`: a table of the costs of a month, by project, product, label or object, with their sum. */
import { type Command, Option } from 'commander';
import type { Costs } from '../contract/resources/bills.ts';
import { amountOf, formatAmount, roundToMinor, sum } from '../model/billing/money.ts';
import { call } from './client.ts';
import { namesIn } from './names.ts';
import { print } from './output.ts';
import { listUpTo } from './pages.ts';
import { FieldOption, optionOf, type Texts } from './request.ts';
import { projectNamed } from './resources.ts';
import { tell, writeOut } from './standard-output.ts';
import { table } from './table.ts';

interface Options {
  readonly month?: string;
  readonly by?: string;
  readonly json?: boolean;
}

/** A cost of one of the projects. */
interface Cost {
  readonly project: string;
  readonly currency: string;
  readonly item: Costs['items'][number];
}

/** The number of requests at once. */
const atOnce = 4;
/** The heading for costs without the label, and for those beyond the longest response. */
const without = '(none)';
const beyond = '(other)';

/** Returns the column titles of a grouping, and the function with its values. @throws Error for an unknown grouping */
function groupingOf(by: string): {
  readonly titles: readonly string[];
  readonly of: (cost: Cost) => readonly string[];
} {
  const label = /^label=(.+)$/s.exec(by)?.[1];
  if (label !== undefined) return { titles: [label], of: ({ item }) => [item.labels[label] || without] };
  switch (by) {
    case 'project':
      return { titles: ['project'], of: ({ project }) => [project] };
    case 'product':
      return { titles: ['product'], of: ({ item }) => [item.product] };
    case 'object':
      return { titles: ['object', 'id'], of: ({ item }) => [item.title, item.resource] };
    default:
      throw new Error(`--by: "${by}" is not one of project, product, object, label=<key>`);
  }
}

/** Returns the projects of the costs: the named one, that of the token, or all projects with an account. */
async function projectsOf(named: string | undefined): Promise<readonly (string | undefined)[]> {
  if (named !== undefined) return [named];
  const { items } = await listUpTo({ method: 'GET', path: '/v1/projects' });
  const projects = items as readonly { readonly id: string; readonly billing_account?: string }[];
  return projects.filter(({ billing_account }) => billing_account !== undefined).map(({ id }) => id);
}

async function costsOf(projects: readonly (string | undefined)[], month: string | undefined): Promise<Costs[]> {
  const answers: Costs[] = [];
  const waiting = [...projects.entries()];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [index, project] = next;
      const query = { ...(project !== undefined && { project }), ...(month !== undefined && { month }) };
      answers[index] = (await call({ method: 'GET', path: '/v1/costs', query, fieldName: optionOf })) as Costs;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return answers;
}

/** A line of the table: a group in one currency. */
interface Line {
  readonly values: readonly string[];
  readonly currency: string;
  readonly cost: bigint;
}

/** Sorts by currency, then by cost, the largest first. */
const descending = (a: Line, b: Line): number =>
  Number(a.currency > b.currency) - Number(a.currency < b.currency) ||
  Number(a.cost < b.cost) - Number(a.cost > b.cost) ||
  Number(a.values.join() > b.values.join()) - Number(a.values.join() < b.values.join());

function linesOf(answers: readonly Costs[], of: (cost: Cost) => readonly string[]): Line[] {
  const lines = new Map<string, Line>();
  const add = (values: readonly string[], currency: string, more: bigint) => {
    const key = JSON.stringify([currency, values]);
    lines.set(key, { values, currency, cost: (lines.get(key)?.cost ?? 0n) + more });
  };
  for (const { project, currency, total, items } of answers) {
    if (currency === undefined) continue;
    const costs = items.map((item) => ({ item, cost: amountOf(item.cost) }));
    for (const { item, cost } of costs) add(of({ project, currency, item }), currency, cost);
    // A response has a limited number of items, but its total is that of all.
    const rest = amountOf(total) - roundToMinor(sum(costs.map(({ cost }) => cost)), currency);
    if (rest !== 0n)
      add(
        of({ project, currency, item: unlisted }).map((value) => value || beyond),
        currency,
        rest,
      );
  }
  return [...lines.values()].toSorted(descending);
}

const unlisted = { resource: '', title: beyond, labels: {}, product: '', cost: '0' } as unknown as Cost['item'];

async function showCosts(given: Texts & Options): Promise<void> {
  const project = await projectNamed(given.project?.at(-1));
  const by = given.by ?? (project === undefined ? 'project' : 'product');
  const { titles, of } = groupingOf(by);
  const answers = await costsOf(await projectsOf(project), given.month);
  const lines = linesOf(answers, of);
  const currencies = [...new Set(lines.map(({ currency }) => currency))].toSorted();
  const text = (cost: bigint, currency: string) => formatAmount(roundToMinor(cost, currency), currency);
  const totals = currencies.map((currency) => {
    const own = lines.filter((line) => line.currency === currency);
    return { currency, cost: text(sum(own.map(({ cost }) => cost)), currency) };
  });
  if (given.json) {
    const items = lines.map(({ values, currency, cost }) => ({
      ...Object.fromEntries(titles.map((title, i) => [title, values[i]])),
      ...{ currency, cost: formatAmount(cost) },
    }));
    return print({ month: given.month ?? answers[0]?.month, by, items, totals }, { json: true });
  }
  if (lines.length === 0) return tell('There are no costs.');
  const columns = titles.map((title, i) => ({
    title,
    values: [...lines.map(({ values }) => values[i]), ...totals.map(() => (i === 0 ? 'total' : ''))],
  }));
  const names = await namesIn(columns.map(({ title, ...rest }) => (title === 'id' ? [] : rest)));
  writeOut(
    table(
      [
        ...columns,
        { title: 'currency', values: [...lines, ...totals].map(({ currency }) => currency) },
        {
          title: 'cost',
          values: [...lines.map(({ cost, currency }) => text(cost, currency)), ...totals.map(({ cost }) => cost)],
        },
      ],
      names,
    ),
  );
}

/** Makes the command `cost` show a table. Its own options come before its sub-commands. */
export function addCost(program: Command): void {
  const cost = program.commands.find((command) => command.name() === 'cost');
  if (!cost) throw new Error('there is no command cost');
  const project = 'project. Default: that of the credentials; without one, all projects with a billing account';
  cost
    .description('Show the costs of a month as a table with a sum')
    .enablePositionalOptions()
    .addOption(new FieldOption('project', { type: 'string', 'x-reference': 'project' }, project))
    .option('--month <month>', 'calendar month (UTC), such as 2026-11. Default: the present month')
    .addOption(
      new Option('--by <grouping>', 'lines of the table: project, product, object or label=<key>').argParser((text) => {
        groupingOf(text);
        return text;
      }),
    )
    .option('--json', 'print JSON')
    .action(showCosts);
}
