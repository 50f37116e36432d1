/** Bills, preliminary bills and costs. All of them come from the calculation of the billing component. */

import { renderCii, renderPdf, renderUbl } from '../../billing/documents/index.ts';
import { accountLines, paidProjects } from '../../billing/ledger/account-bill.ts';
import { priceFactsOf } from '../../billing/ledger/price-facts.ts';
import { type DescribedUse, usesSince } from '../../billing/ledger/uses.ts';
import { vatRatesOf, verificationOf } from '../../billing/ledger/vat-state.ts';
import type { Id } from '../../contract/fields.ts';
import { type BillFormat, type BillPreview, bill, type Costs } from '../../contract/resources/bills.ts';
import type { BillDocument } from '../../model/billing/bill-document.ts';
import { previewBill } from '../../model/billing/bill-preview.ts';
import type { PaidTime } from '../../model/billing/bills.ts';
import { amountOf, formatAmount, multiply, roundToMinor, sum } from '../../model/billing/money.ts';
import { monthText, parseMonth } from '../../model/billing/months.ts';
import type { PriceList } from '../../model/billing/price-list.ts';
import { chargesUpTo, type Month } from '../../model/billing/rating.ts';
import { idFrom } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { read } from '../../store/collection.ts';
import { ledgerOf } from '../billing/ledger.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { find, notFound, projectInQuery } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { creditBill } from './bill-credit.ts';
import { billingAccounts } from './billing-accounts.ts';

/** The maximum number of costs in a response. */
const maxCosts = 10_000;
/** The number of months of which costs and preliminary bills are computed. Each costs reads of the database. */
const keptMonths = 24;

/** The descriptor of bills. */
export const bills: ResourceDescriptor<records.BillRecord> = describe(bill, {
  kind: records.bills,
  scope: 'operator',
  payer: (record) => record.billing_account,
  show: (_api, { labels: _labels, kind = 'bill', ...record }) => ({ ...record, kind }),
  indexes: ['billing_account', 'number'],
  list: { selectedBy: 'billing_account', filters: ['number'] },
  alsoMirrored: [records.accountTerms, records.vatChecks],
  handlers: {
    bill_document: getDocument,
    bill_credit: (api, request) => creditBill(api, request, bills),
    billing_account_preview: getPreview,
    cost_list: getCosts,
  },
});

const mediaTypes: Readonly<Record<BillFormat, string>> = {
  json: 'application/json; charset=utf-8',
  pdf: 'application/pdf',
  xrechnung: 'application/xml',
  cii: 'application/xml',
};

async function render(document: BillDocument, json: string, format: BillFormat): Promise<string | Uint8Array> {
  if (format === 'pdf') return renderPdf(document);
  if (format === 'xrechnung') return renderUbl(document);
  return format === 'cii' ? renderCii(document) : json;
}

async function getDocument(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id, value, revision } = find(api, bills, request.caller, request.params.id ?? '');
  const { format = 'json' } = request.query as { readonly format?: BillFormat };
  const stored = await read(api.store, records.billDocuments, id);
  if (!stored) throw notFound('bill', id);
  const { json } = stored.value;
  const data = Buffer.from(await render(JSON.parse(json) as BillDocument, json, format));
  const extension = format === 'json' || format === 'pdf' ? format : 'xml';
  return {
    status: 200,
    content: { type: mediaTypes[format], size: data.length, data },
    headers: { 'content-disposition': `attachment; filename="${value.number}.${extension}"` },
    revision,
  };
}

/** Returns the month of the request, and the instant up to which its uses are charged. */
function periodOf(request: ApiRequest): { text: string; month: Month; until: number } {
  const now = request.now.getTime();
  const { month: text = monthText(now) } = request.query as { readonly month?: string };
  const month = parseMonth(text);
  const oldest = now - keptMonths * 31 * 24 * 3_600_000;
  if (!month || month.to <= oldest || month.from > now) {
    throw fieldError('invalid_input', '#query/month', `must be the present month or one of the last ${keptMonths}`);
  }
  return { text, month, until: Math.max(month.from, Math.min(now, month.to)) };
}

async function getPreview(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { value: account } = find(api, billingAccounts, request.caller, request.params.id ?? '');
  const { text, month, until } = periodOf(request);
  const { revision } = api.mirror;
  const period = { from: month.from, to: until };
  const lines = await accountLines(ledgerOf(api), account, month, period, request.now.getTime());
  const entity = api.mirror.get(records.legalEntities, account.legal_entity)?.value;
  const shown = lines.map(({ description, project, quantity, unit, unit_price, net }) => ({
    ...{ description, quantity, unit: unit.label, unit_price, net },
    ...(project !== undefined && { project }),
  }));
  const { currency } = account;
  const preview =
    entity &&
    previewBill({
      ...{ account, entity, lines, month, at: until, rates: vatRatesOf(api.mirror) },
      verification: verificationOf(api.mirror, account),
    });
  const body: BillPreview = {
    ...{ billing_account: account.id, month: text, until: new Date(until).toISOString(), currency, lines: shown },
    net: formatAmount(sum(lines.map(({ net }) => amountOf(net))), currency),
    ...(preview?.ok && { vat: preview.bill.totals.vat, gross: preview.bill.totals.gross }),
    ...(preview?.ok === false && { waits: preview.waits }),
    revision,
  };
  return { status: 200, body, revision };
}

type Item = Costs['items'][number];

/** Returns the charges of the uses of an object in the times that are paid, by product. */
function paidCharges(
  prices: PriceList,
  uses: readonly DescribedUse[],
  month: Month,
  paid: readonly PaidTime[],
  until: number,
): Map<Id<'product'>, bigint> {
  const sums = new Map<Id<'product'>, bigint>();
  const add = (at: number, sign: bigint) => {
    for (const { price, numerator, denominator } of chargesUpTo(prices, uses, month, at)) {
      const product = idFrom('product', price.product);
      sums.set(product, (sums.get(product) ?? 0n) + sign * multiply(1n, { numerator, denominator }));
    }
  };
  for (const { from, to } of paid) {
    const [begin, end] = [Math.max(from, month.from), Math.min(to, until)];
    if (begin >= end) continue;
    add(end, 1n);
    add(begin, -1n);
  }
  return sums;
}

/**
 * Returns the project of a request for costs, and the accounts that pay in this month: for a token of an account only its own. The
 * costs of a project have the currency of its last account. @throws UcloudError `invalid_input`, `not_found`
 */
function payersIn(api: ApiContext, { caller }: ApiRequest, asked: Id<'project'> | undefined, month: Month) {
  const project = asked ?? caller.project;
  if (project === undefined) {
    throw fieldError('invalid_input', '#query/project', 'is required with a token that belongs to no project');
  }
  const { billing_account: own } = caller;
  if (own === undefined) projectInQuery(api, caller, asked);
  const terms = [...api.mirror.list(records.accountTerms, `${project}/`)].map(({ value }) => value);
  const accounts = own === undefined ? [...new Set(terms.flatMap(({ account }) => account ?? []))] : [own];
  const payers = accounts.flatMap((account) => {
    const currency = api.mirror.get(records.billingAccounts, account)?.value.currency;
    const paid = paidProjects(api.mirror, account, month).find(({ id }) => id === project)?.paid ?? [];
    return currency === undefined || paid.length === 0 ? [] : [{ currency, paid }];
  });
  if (own !== undefined && payers.length === 0) throw notFound('project', project);
  const last = payers.reduce<(typeof payers)[number] | undefined>(
    (latest, each) => ((latest?.paid.at(-1)?.to ?? 0) >= (each.paid.at(-1)?.to ?? 0) ? latest : each),
    undefined,
  );
  const paid = payers.filter(({ currency }) => currency === last?.currency).flatMap((each) => each.paid);
  return { project, currency: last?.currency, paid };
}

/**
 * Returns the last use that begins in the time that is paid. A use that goes on afterwards shows no labels, because these may be
 * of the time of another account.
 */
function lastUse(
  uses: readonly DescribedUse[],
  paidUntil: number,
): Pick<DescribedUse, 'resource' | 'title' | 'labels'> {
  const end = ({ to }: DescribedUse) => to ?? Number.MAX_VALUE;
  const own = uses.filter(({ from }) => from < paidUntil);
  const last = (own.length > 0 ? own : uses).reduce((a, b) => (end(b) >= end(a) ? b : a));
  return end(last) > paidUntil ? { ...last, labels: {} } : last;
}

async function getCosts(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked } = request.query as { readonly project?: Id<'project'> };
  const { text, month, until } = periodOf(request);
  const { revision } = api.mirror;
  const { project, currency, paid } = payersIn(api, request, asked, month);
  const costs: (Item & { readonly exact: bigint })[] = [];
  if (currency !== undefined) {
    const { prices } = priceFactsOf(api.mirror, currency);
    const ledger = ledgerOf(api);
    const orders = [...ledger.ordersOf(project)];
    const open = { revision, of: () => orders };
    const from = month.from - prices.longestMinimumMs;
    const uses = await usesSince(api.store, open, project, from, request.now.getTime());
    const paidUntil = Math.max(...paid.map(({ to }) => to));
    for (const own of Map.groupBy(uses, ({ resource }) => resource).values()) {
      const last = lastUse(own, paidUntil);
      for (const [product, exact] of paidCharges(prices, own, month, paid, until)) {
        if (exact === 0n) continue;
        const { resource, title, labels } = last;
        costs.push({ resource, title, labels, product, cost: formatAmount(exact), exact });
      }
    }
  }
  costs.sort((a, b) => (a.exact === b.exact ? (a.resource < b.resource ? -1 : 1) : a.exact > b.exact ? -1 : 1));
  const total = sum(costs.map(({ exact }) => exact));
  const body: Costs = {
    ...{ project, month: text, until: new Date(until).toISOString(), revision },
    ...(currency !== undefined && { currency }),
    total: currency === undefined ? '0' : formatAmount(roundToMinor(total, currency), currency),
    items: costs.slice(0, maxCosts).map(({ exact: _exact, ...item }) => item),
  };
  return { status: 200, body, revision };
}
