/**
 * `ucloud price export`: the current prices in the form that OpenInfraQuote reads (https://github.com/terrateamio/openinfraquote):
 * `prices.csv` with a row for each price of a resource in Terraform, and a usage file, which tells how to apply them.
 *
 * OpenInfraQuote multiplies only by whole numbers. So sizes have a row each, in their normal spelling. All prices are those
 * of a month of 730 hours. What is charged once is missing: OpenInfraQuote shows monthly cost alone.
 */
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Meter } from '../contract/resources/meters.ts';
import type { QuoteResult } from '../contract/resources/quotes.ts';
import { call } from './client.ts';
import { listUpTo } from './pages.ts';
import { projectNamed } from './resources.ts';
import { tell, writeOut } from './standard-output.ts';

/** A row of prices.csv. */
interface Row {
  readonly family: string;
  /** The values of the resource that the price belongs to. */
  readonly match: Readonly<Record<string, string>>;
  /** The values that select the entry of the usage file. */
  readonly pricing: Readonly<Record<string, string>>;
  readonly price: string;
  /** The number that multiplies the price: an attribute, or 1. */
  readonly attribute?: string;
}

interface Usage {
  readonly description: string;
  readonly match_query: string;
  readonly usage?: { readonly operations: number };
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_none, i) => from + i);
const mebibytesOf = { MiB: 1, GiB: 1024, TiB: 1024 * 1024 } as const;
/** The sizes with a row each. */
const sizes = [
  ...[256, 512, 768].map((amount) => ({ amount, unit: 'MiB' as const })),
  ...range(1, 512).map((amount) => ({ amount, unit: 'GiB' as const })),
  ...[640, 768, 896].map((amount) => ({ amount, unit: 'GiB' as const })),
  ...range(1, 16).map((amount) => ({ amount, unit: 'TiB' as const })),
].map(({ amount, unit }) => ({ text: `${amount}${unit}`, gibibytes: (amount * mebibytesOf[unit]) / 1024 }));

/** The number of objects in a quote, so that the roundings are small. */
const quoted = 10_000;

/** Returns the price of one unit from a line for many. OpenInfraQuote itself computes with numbers of this kind. */
const unitPrice = (monthly: string, quantity: string): number => Number(monthly) / Number(quantity);
const amountText = (price: number): string => String(Number(price.toFixed(6)));

/** The rows of meters that count, and of those in bytes. */
const counted: Partial<
  Record<Meter, { readonly attribute?: string; readonly match?: Readonly<Record<string, string>> }>
> = {
  vm: {},
  vm_cpu: { attribute: 'values.cpus' },
  running_vm: { match: { 'values.power_state': 'running' } },
  running_cpu: { attribute: 'values.cpus', match: { 'values.power_state': 'running' } },
};
const sized: Partial<Record<Meter, { readonly field: string; readonly match?: Readonly<Record<string, string>> }>> = {
  vm_memory: { field: 'values.memory' },
  vm_disk: { field: 'values.disk_size' },
  running_memory: { field: 'values.memory', match: { 'values.power_state': 'running' } },
};

const pairs = (values: Readonly<Record<string, string>>): string =>
  Object.entries(values)
    .map(([key, value]) => encodeURIComponent(`${key}=${value}`).replaceAll('%3D', '='))
    .join('&');

/** Returns the rows for VMs. */
function vmRows({ lines }: QuoteResult): Row[] {
  return lines.flatMap(({ meter, monthly, quantity }): Row[] => {
    const price = unitPrice(monthly, quantity);
    if (price === 0) return [];
    const base = { type: 'ucloud_vm' };
    const pricing = { meter };
    const one = counted[meter];
    if (one) {
      const { attribute, match } = one;
      return [
        {
          family: 'vm',
          match: { ...base, ...match },
          pricing,
          price: amountText(price),
          ...(attribute && { attribute }),
        },
      ];
    }
    const many = sized[meter];
    if (!many) return [];
    return sizes.map(({ text, gibibytes }) => ({
      family: 'vm',
      match: { ...base, ...many.match, [many.field]: text },
      pricing,
      price: amountText(price * gibibytes),
    }));
  });
}

const csv = (rows: readonly Row[], currency: string): string =>
  [
    'service,product_family,match_set,pricing_match_set,price,price_type,ccy',
    ...rows.map(({ family, match, pricing, price, attribute }) =>
      [
        'ucloud',
        family,
        pairs(match),
        pairs(pricing),
        price,
        attribute === undefined ? 'o' : `a=${attribute}`,
        currency,
      ].join(','),
    ),
    '',
  ].join('\n');

/** Returns an entry for each kind of price. OpenInfraQuote takes the first entry that matches. */
function usageOf(rows: readonly Row[], pools: readonly string[]): Usage[] {
  const kinds = new Map(rows.map((row) => [JSON.stringify([row.match.type, row.pricing]), row]));
  const entries = [...kinds.values()].map(({ match, pricing, attribute }): Usage => {
    const { pool } = pricing;
    const general = pricing.meter === 'volume' && pool === undefined;
    const conditions = [
      `type = ${match.type}`,
      ...Object.entries(pricing).map(([key, value]) => `${key} = ${value}`),
      ...(general ? pools.map((each) => `not (values.pool = ${each})`) : []),
    ];
    return {
      description: `ucloud ${Object.values(pricing).join(' ')}`,
      match_query: conditions.join(' and '),
      ...(attribute === undefined && { usage: { operations: 1 } }),
    };
  });
  return entries.toSorted((a, b) => b.match_query.length - a.match_query.length);
}

interface Options {
  readonly project?: string;
  readonly currency?: string;
  readonly usage?: string;
}

async function exportPrices({ project: payer, currency, usage }: Options): Promise<void> {
  const project = await projectNamed(payer);
  const asked = { ...(project !== undefined && { project }), ...(currency !== undefined && { currency }) };
  const quote = async (body: object): Promise<QuoteResult> =>
    (await call({ method: 'POST', path: '/v1/quotes', body: { ...asked, ...body } })) as QuoteResult;
  const { items: products } = await listUpTo({ method: 'GET', path: '/v1/products' });
  const pools = (products as { readonly meter: Meter; readonly pool?: string }[]).flatMap(({ meter, pool }) =>
    meter === 'volume' && pool !== undefined ? [pool] : [],
  );
  // Large VMs, so that composed products do not include all of a quantity.
  const vms = await quote({ vms: [{ count: quoted, cpus: 256, memory: '512GiB', disk_size: '512GiB' }] });
  if (vms.currency === undefined) return tell('There are no prices.');
  const volumes = await Promise.all(
    [undefined, ...pools].map(async (pool): Promise<Row[]> => {
      const place: Readonly<Record<string, string>> = pool === undefined ? {} : { pool };
      const { items } = await quote({ volumes: sizes.map(({ text }) => ({ size: text, ...place })) });
      return items.map(({ monthly }, index) => ({
        family: 'volume',
        match: {
          type: 'ucloud_volume',
          'values.size': sizes[index]?.text ?? '',
          ...(pool !== undefined && { 'values.pool': pool }),
        },
        pricing: { meter: 'volume', ...place },
        price: amountText(Number(monthly)),
      }));
    }),
  );
  const lengths = range(16, 64);
  const { items: prefixes } = await quote({ prefixes: lengths.map((length) => ({ length })) });
  const prefixRows = prefixes.map(
    ({ monthly }, index): Row => ({
      family: 'prefix',
      match: { type: 'ucloud_prefix', 'values.length': String(lengths[index]) },
      pricing: { meter: 'prefix' },
      price: amountText(Number(monthly)),
    }),
  );
  const rows = [...vmRows(vms), ...volumes.flat(), ...prefixRows].filter(({ price }) => price !== '0');
  writeOut(csv(rows, vms.currency));
  if (usage !== undefined) writeFileSync(usage, `${JSON.stringify(usageOf(rows, pools), undefined, 2)}\n`);
}

/** Adds the command `price export`. */
export function addPriceExport(program: Command): void {
  const price = program.commands.find((command) => command.name() === 'price');
  if (!price) throw new Error('there is no command price');
  price
    .command('export')
    .description('Write the current prices as prices.csv of OpenInfraQuote to standard output')
    .option('--project <project>', 'project whose prices to write. Default: that of the credentials')
    .option('--currency <currency>', 'currency. Default: that of the billing account, or the only one with prices')
    .option('--usage <file>', 'write the usage file of OpenInfraQuote, which `oiq price --usage` needs')
    .action(exportPrices);
}
