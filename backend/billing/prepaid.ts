/**
 * The states of prepaid accounts. A state changes in one commit with its event and its e-mail. The API stops the VMs of empty
 * accounts, because it alone writes declarations.
 */
import { setImmediate } from 'node:timers/promises';
import { mailRecord, prepaidText } from '../model/billing/mail-texts.ts';
import { formatAmount } from '../model/billing/money.ts';
import { nextPrepaid, type Prepaid } from '../model/billing/prepaid.ts';
import { monthlyCostOf, QuantitySums } from '../model/billing/quantity-sums.ts';
import { newEvent } from '../model/events.ts';
import * as records from '../model/records/index.ts';
import { absent, put, remove, rewrite, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { ClosingParts } from './closing.ts';
import { accountBalance } from './ledger/account-balance.ts';
import { type PrepaidFunds, prepaidFunds } from './ledger/prepaid-funds.ts';
import { priceFactsOf } from './ledger/price-facts.ts';
import { queued } from './mail/outbox.ts';

/** The kinds of records that the mirror must contain, beside those of the dunning. */
export const prepaidKinds = [records.prepaid] as const;

/** Days of grace of a legal entity without its own number. */
export const defaultGraceDays = 14;
const daysPerMonth = 365n;
const monthsPerYear = 12n;
/** Milliseconds in which the mirror must show the database. */
const catchUpMs = 10_000;

/** Brings the state of each account up to date. */
export async function watchPrepaid(parts: ClosingParts, over: AbortSignal): Promise<void> {
  const { mirror, store, holds, logger } = parts;
  // A mirror that is behind may lack the last payments.
  if (!(await mirror.catchUp({ timeoutMs: catchUpMs, signal: over }))) return;
  const projects = Map.groupBy(
    [...mirror.list(records.projects)].map(({ value }) => value),
    (project) => project.billing_account,
  );
  for (const stored of [...mirror.list(records.billingAccounts)]) {
    if (over.aborted) return;
    if (stored.value.payment === 'prepaid') {
      const own = projects.get(stored.value.id) ?? [];
      await watch(parts, stored, own).catch((err: unknown) => {
        logger.error({ err, account: stored.id }, 'the state of a prepaid account failed; the other accounts go on');
      });
    }
    // Other work of the process goes on between two accounts.
    await setImmediate();
  }
  for (const before of [...mirror.list(records.prepaid)]) {
    const account = mirror.get(records.billingAccounts, before.id);
    if (account?.value.payment === 'prepaid') continue;
    const condition = account ? unchanged(account) : absent(records.billingAccounts, before.id);
    await store.commit({
      require: [...holds, unchanged(before), condition],
      write: [remove(records.prepaid, before.id)],
    });
  }
}

/** Returns the cost of a day at the rate of budgets and quotes, with VAT as in the preliminary bills. */
export function dailyCost(
  parts: ClosingParts,
  account: records.BillingAccountRecord,
  projects: readonly Pick<records.ProjectRecord, 'id'>[],
  { net, gross }: PrepaidFunds,
): bigint {
  const { prices } = priceFactsOf(parts.mirror, account.currency);
  const at = parts.now().getTime();
  let monthly = 0n;
  for (const { id } of projects) {
    const sums = new QuantitySums();
    for (const { value: order } of parts.ordersOf(id)) sums.add(order.use);
    monthly += monthlyCostOf(prices, sums, at);
  }
  const daily = (monthly * monthsPerYear) / daysPerMonth;
  return net > 0n ? (daily * gross) / net : daily;
}

const timeText = (at: number): string => new Date(at).toISOString();

function fromRecord({ state, since, warned, warnings = {} }: records.PrepaidRecord): Prepaid {
  const sent = Object.entries(warnings).map(([days, last]) => [days, { ...last, at: Date.parse(last.at) }] as const);
  return { state, since: Date.parse(since), warned, warnings: Object.fromEntries(sent) };
}

function toRecord({ state, since, warned, warnings = {} }: Prepaid): records.PrepaidRecord {
  const sent = Object.entries(warnings).map(([days, last]) => [days, { ...last, at: timeText(last.at) }] as const);
  return {
    ...{ state, since: timeText(since), ...(warned !== undefined && { warned }) },
    ...(sent.length > 0 && { warnings: Object.fromEntries(sent) }),
  };
}

async function watch(
  parts: ClosingParts,
  stored: Stored<records.BillingAccountRecord>,
  projects: readonly Pick<records.ProjectRecord, 'id'>[],
): Promise<void> {
  const { store, mirror, holds, now, bills, payments } = parts;
  const { id, value: account } = stored;
  const entity = mirror.get(records.legalEntities, account.legal_entity)?.value;
  if (!entity) return;
  const before = mirror.get(records.prepaid, id);
  const at = now();
  const balance = accountBalance(bills.list(id), payments.list(id), at);
  const received = [...payments.list(id)].filter(({ value }) => value.kind === 'received').length;
  const funds = await prepaidFunds(parts, account, balance, at.getTime());
  const known = before && fromRecord(before.value);
  const { next, isTold } = nextPrepaid(known, {
    available: funds.available,
    daily: dailyCost(parts, account, projects, funds),
    graceDays: entity.prepaid_grace_days ?? defaultGraceDays,
    payments: received,
    now: at.getTime(),
  });
  if (next === known) return;
  const record = toRecord(next);
  const text = isTold ? prepaidText(account, record, formatAmount(funds.available, account.currency)) : undefined;
  const key = `prepaid/${id}/${next.state}${next.warned ?? ''}/${timeText(at.getTime())}`;
  const mail = text && (await queued(parts, key, mailRecord({ account, entity }, text.mail, at.toISOString())));
  const details = text && {
    ...{ severity: next.state === 'ok' ? ('info' as const) : ('warning' as const), reason: `prepaid_${next.state}` },
    message: text.event,
  };
  await store.commit({
    require: [
      ...[...holds, unchanged(stored), before ? unchanged(before) : absent(records.prepaid, id)],
      ...(mail?.require ?? []),
    ],
    write: [
      before ? rewrite(records.prepaid, before, record) : put(records.prepaid, id, record),
      ...(details ? [put(records.events, ...newEvent(at, { id }, details))] : []),
      ...(mail?.write ?? []),
    ],
  });
}
