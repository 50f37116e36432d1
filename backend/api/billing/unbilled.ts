/** The months of a project that are on no final bill. Only in these can a use be taken back. */

import { UcloudError } from '../../contract/errors.ts';
import { paidTimes } from '../../model/billing/account-terms.ts';
import { monthsBetween } from '../../model/billing/months.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, rewrite, unchanged } from '../../store/collection.ts';
import type { Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';
import type { Guard } from '../transaction/mutate.ts';

/** The number of months of all accounts. One commit has a limited number of conditions. */
const maxMonths = 40;

const billed = (month: string): UcloudError =>
  new UcloudError('invalid_state', `${month} is closed and its bill is final; create a credit note instead`);

/**
 * Returns the guards that no final bill contains uses of the project from an instant until now, and the writes that make each
 * closing fail that has read the uses already.
 * @param from the instant, in milliseconds since 1970
 * @throws UcloudError `invalid_state` if there is such a bill
 */
export async function unbilledSince(
  { store, mirror }: ApiContext,
  project: string,
  from: number,
  now: Date,
): Promise<{ guards: Guard[]; writes: Write[] }> {
  const terms = [...mirror.list(records.accountTerms, `${project}/`)].map(({ value }) => ({
    account: value.account,
    since: Date.parse(value.since),
  }));
  const guards: Guard[] = [];
  const writes: Write[] = [];
  let months = 0;
  for (const account of new Set(terms.map((term) => term.account))) {
    if (account === undefined) continue;
    const paid = paidTimes(terms, account)
      .map((time) => ({ from: Math.max(time.from, from), to: Math.min(time.to, now.getTime()) }))
      .filter((time) => time.from <= time.to);
    const texts = new Set(paid.flatMap((time) => monthsBetween(time.from, time.to)));
    if (texts.size === 0) continue;
    months += texts.size;
    for (const text of texts) {
      if (months > maxMonths)
        throw new UcloudError('invalid_state', `the order has run for more than ${maxMonths} months`);
      if (await read(store, records.closedMonths, `${account}/${text}`)) throw billed(text);
      guards.push({
        condition: absent(records.closedMonths, `${account}/${text}`),
        otherwise: () => billed(text),
      });
    }
    const guard = await read(store, records.billGuards, account);
    const next = { count: (guard?.value.count ?? 0) + 1 };
    guards.push({ condition: guard ? unchanged(guard) : absent(records.billGuards, account) });
    writes.push(guard ? rewrite(records.billGuards, guard, next) : put(records.billGuards, account, next));
  }
  return { guards, writes };
}
