/**
 * The bill of an account: a pure function of uses, prices and a period within a calendar month (UTC). It can be computed at any
 * time, and again with the same result.
 *
 * A line is a product at a price for one project. Its amount is the difference of two rounded charges, that at the end of the
 * period and that at its begin (rating.ts). So the bills of any parts of a month add up to the bill of the month.
 */
import { meterTable } from '../../contract/resources/meters.ts';
import type { BillLine } from './bill-document.ts';
import { formatAmount, multiplyToMinor, oneUnit, roundHalfUp } from './money.ts';
import type { PriceFacts, PriceList, ProductFacts } from './price-list.ts';
import { type Charge, chargesUpTo, type Month, type Use } from './rating.ts';

/** A time in which an account pays for a project: `[from, to)` in milliseconds since 1970. */
export interface PaidTime {
  readonly from: number;
  readonly to: number;
}

/** A project of an account. */
export interface BilledProject {
  readonly id: string;
  readonly name: string;
  readonly paid: readonly PaidTime[];
  /** All uses that end in the month or later, and earlier ones within the longest minimum duration. */
  readonly uses: readonly Use[];
}

/** A product, as bills name it. */
export interface BilledProduct extends ProductFacts {
  readonly description: string;
}

/** A line without VAT. */
export type NetLine = Omit<BillLine, 'vat'>;

/** The facts of a bill. */
export interface BillFacts {
  readonly prices: PriceList;
  readonly products: ReadonlyMap<string, BilledProduct>;
  readonly projects: readonly BilledProject[];
  readonly month: Month;
  /** The period within the month: `[from, to)` in milliseconds since 1970. */
  readonly period: PaidTime;
}

const hourMs = 3_600_000n;
const bytesPerUnit = 2n ** 30n;

interface Amounts {
  readonly price: PriceFacts;
  readonly net: bigint;
  readonly amount: bigint;
}

/** Returns the rounded charges up to an instant, by price. */
function roundedUpTo(prices: PriceList, uses: readonly Use[], month: Month, until: number): Map<string, Amounts> {
  const charges: readonly Charge[] = chargesUpTo(prices, uses, month, until);
  return new Map(
    charges.map(({ price, numerator, denominator, amount }) => [
      price.id,
      { price, net: multiplyToMinor(1n, { numerator, denominator }, prices.currency), amount },
    ]),
  );
}

/** Returns the lines of a bill, sorted by project and product. Lines without an amount are missing. */
export function billLines({ prices, products, projects, month, period }: BillFacts): NetLine[] {
  const monthMs = BigInt(month.to - month.from);
  const found = projects.flatMap((project) => {
    const sums = new Map<string, Amounts>();
    for (const { from, to } of project.paid) {
      const [begin, end] = [Math.max(from, period.from, month.from), Math.min(to, period.to, month.to)];
      if (begin >= end) continue;
      const before = roundedUpTo(prices, project.uses, month, begin);
      for (const [id, { price, net, amount }] of roundedUpTo(prices, project.uses, month, end)) {
        const sum = sums.get(id);
        const earlier = before.get(id);
        sums.set(id, {
          price,
          net: (sum?.net ?? 0n) + net - (earlier?.net ?? 0n),
          amount: (sum?.amount ?? 0n) + amount - (earlier?.amount ?? 0n),
        });
      }
    }
    return [...sums.values()].filter(({ net }) => net !== 0n).map((amounts) => ({ project, ...amounts }));
  });
  const keyed = found.map((each) => {
    const product = products.get(each.price.product);
    return {
      ...each,
      product,
      key: `${each.project.name} ${product?.name ?? ''} ${each.price.validFrom} ${each.price.id}`,
    };
  });
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return keyed.map(({ project, product, price, net, amount }, index) =>
    netLine(String(index + 1), project.name, product, { price, net, amount }, monthMs, prices.currency),
  );
}

const periods = { hour: 'hours', month: 'months', once: 'units' } as const;
const unitCodes = { hour: 'HUR', month: 'MON', once: 'C62' } as const;

/**
 * Returns a line. Its net amount is quantity times price, if that is what the customer pays. If a cap or a rounded part of a
 * month makes the difference, the line has the quantity 1, and names quantity and price in its text.
 */
function netLine(
  id: string,
  project: string,
  product: BilledProduct | undefined,
  { price, net, amount }: Amounts,
  monthMs: bigint,
  currency: string,
): NetLine {
  const { unit, bytes } = meterTable[product?.meter ?? 'booked'];
  const perUnit = bytes ? bytesPerUnit : 1n;
  const time = price.per === 'hour' ? hourMs : price.per === 'month' ? monthMs : 1n;
  const units = roundHalfUp(amount * oneUnit, perUnit * time);
  const text = product?.description || product?.name || price.product;
  const label = price.per === 'once' ? unit : `${unit} ${periods[price.per]}`;
  const isExact = multiplyToMinor(price.amount, { numerator: units, denominator: oneUnit }, currency) === net;
  const common = { id, project, net: formatAmount(net, currency) };
  if (isExact) {
    return {
      ...{ ...common, description: text, quantity: formatAmount(units), unit: { code: unitCodes[price.per], label } },
      unit_price: formatAmount(price.amount, currency),
    };
  }
  const rate = `${formatAmount(units)} ${label} at ${formatAmount(price.amount, currency)} ${currency}`;
  const cap =
    price.monthlyCap === undefined ? '' : `, at most ${formatAmount(price.monthlyCap, currency)} per ${unit} and month`;
  return {
    ...{ ...common, description: `${text} (${rate}${cap})`, quantity: net < 0n ? '-1' : '1' },
    unit: { code: 'C62', label: 'lump sum' },
    unit_price: formatAmount(net < 0n ? -net : net, currency),
  };
}
