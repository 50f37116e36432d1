/** Payments, and the balance of accounts. Payments are records of events, so they never change. */
import { accountBalance } from '../../billing/ledger/account-balance.ts';
import { prepaidFunds } from '../../billing/ledger/prepaid-funds.ts';
import { type AccountBalance, type PaymentBody, payment } from '../../contract/resources/payments.ts';
import { amountOf, formatAmount, minorUnits, roundToMinor } from '../../model/billing/money.ts';
import { dayText } from '../../model/billing/months.ts';
import { isDay } from '../../model/billing/vat-rates.ts';
import { idFrom, newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { present, put } from '../../store/collection.ts';
import { ledgerOf } from '../billing/ledger.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { find } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { creation } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { billingAccounts } from './billing-accounts.ts';

/** The descriptor of payments. */
export const payments: ResourceDescriptor<records.PaymentRecord> = describe(payment, {
  kind: records.payments,
  scope: 'operator',
  payer: (record) => record.billing_account,
  show: (_api, record) => record,
  indexes: ['billing_account'],
  list: { selectedBy: 'billing_account' },
  alsoMirrored: [records.dunning, records.prepaid, records.closedMonths],
  handlers: { payment_create: createPayment, billing_account_balance: getBalance },
});

const dayMs = 24 * 3_600_000;
/** The maximum number of open bills in a response. */
const maxOpenBills = 1000;

/** Returns the day of a payment. @throws UcloudError `invalid_input`, `rule_violated` */
function dayOf(asked: string | undefined, now: Date, pointer: string): string {
  if (asked === undefined) return dayText(now.getTime());
  if (!isDay(asked)) throw fieldError('invalid_input', pointer, 'must be a day that exists, such as 2026-11-30');
  if (asked <= dayText(now.getTime() + dayMs)) return asked;
  throw fieldError('rule_violated', pointer, 'must be at most one day in the future');
}

/** Checks the amount of a payment. @throws UcloudError `rule_violated` */
function checkAmount(text: string, currency: string, pointer: string): void {
  const amount = amountOf(text);
  if (amount <= 0n) throw fieldError('rule_violated', pointer, 'must be more than 0; `kind` tells the direction');
  if (roundToMinor(amount, currency) === amount) return;
  throw fieldError('rule_violated', pointer, `must have at most ${minorUnits(currency)} decimals, as ${currency} has`);
}

/** A payment before it is recorded, with the pointer to the object with its fields. */
export interface NewPayment {
  readonly body: PaymentBody;
  readonly at: string;
}

/** Returns the record of a payment, and the account must exist. @throws UcloudError every refusal */
export function paymentRecord(
  api: ApiContext,
  { body, at: pointer }: NewPayment,
  now: Date,
  id = newId('payment'),
): records.PaymentRecord {
  const { billing_account, bill, amount, received_on, kind, reference } = body;
  const account = api.mirror.get(records.billingAccounts, billing_account);
  if (!account) {
    const rule = `must be the id of an existing billing account: there is no ${billing_account}`;
    throw fieldError('invalid_reference', `${pointer}/billing_account`, rule);
  }
  if (bill !== undefined && api.mirror.get(records.bills, bill)?.value.billing_account !== billing_account) {
    throw fieldError('invalid_reference', `${pointer}/bill`, `must be the id of a bill of ${billing_account}`);
  }
  const { currency } = account.value;
  checkAmount(amount, currency, `${pointer}/amount`);
  const at = now.toISOString();
  return {
    ...{ id, billing_account, kind, amount: formatAmount(amountOf(amount), currency), currency },
    received_on: dayOf(received_on, now, `${pointer}/received_on`),
    ...{ reference, ...(bill !== undefined && { bill }), created_at: at, updated_at: at },
  };
}

/** Returns the change that records a payment. The account stays, because the payment names it. */
export const recording = (api: ApiContext, record: records.PaymentRecord) =>
  creation(api, payments, record, {
    guards: [{ condition: present(records.billingAccounts, record.billing_account) }],
    writes: [put(records.uses, `${record.billing_account}/${record.id}`, {})],
    message: `Recorded ${record.amount} ${record.currency} as ${record.kind} on ${record.received_on}.`,
  });

async function createPayment(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as PaymentBody;
  const id = newId('payment');
  return mutate(api, request, () => recording(api, paymentRecord(api, { body, at: '' }, request.now, id)));
}

const dunnedLevel = ({ mirror }: ApiContext, bill: string) => {
  const level = mirror.get(records.dunning, bill)?.value.level;
  return level === undefined ? {} : { dunning_level: level };
};

async function getBalance(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { value: account } = find(api, billingAccounts, request.caller, request.params.id ?? '');
  const { revision } = api.mirror;
  const { currency, id } = account;
  const sums = accountBalance(
    api.mirror.by(records.bills, 'billing_account').list(id),
    api.mirror.by(records.payments, 'billing_account').list(id),
    request.now,
  );
  const text = (amount: bigint) => formatAmount(amount, currency);
  const isPrepaid = account.payment === 'prepaid';
  const funds = isPrepaid ? await prepaidFunds(ledgerOf(api), account, sums, request.now.getTime()) : undefined;
  const state = api.mirror.get(records.prepaid, id)?.value;
  const body: AccountBalance = {
    ...{ billing_account: id, currency, received: text(sums.received), refunded: text(sums.refunded) },
    ...{ billed: text(sums.billed), balance: text(sums.balance), credit: text(sums.credit) },
    overdue: text(sums.overdue),
    ...(funds && {
      prepaid: { ...(state && { state: state.state, since: state.since }), available: text(funds.available) },
    }),
    open_bills: sums.open.slice(0, maxOpenBills).map(({ bill, open, isOverdue }) => ({
      ...dunnedLevel(api, bill.id),
      ...{ bill: idFrom('bill', bill.id), number: bill.number, due_date: bill.due_date, gross: text(bill.gross) },
      ...{ open: text(open), overdue: isOverdue },
    })),
    revision,
  };
  return { status: 200, body, revision };
}
