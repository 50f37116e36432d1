/** Billing accounts: the customers who pay for projects. */

import { accountLines, paidProjects } from '../../billing/ledger/account-bill.ts';
import { UcloudError } from '../../contract/errors.ts';
import {
  type BillingAccountBody,
  type BillingAccountUpdate,
  billingAccount,
} from '../../contract/resources/billing-accounts.ts';
import { monthsBetween, parseMonth } from '../../model/billing/months.ts';
import { decisionProblem } from '../../model/billing/vat-decision.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { present, put, read, remove } from '../../store/collection.ts';
import { ledgerOf } from '../billing/ledger.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, removeReference, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';

/** The descriptor of billing accounts. */
export const billingAccounts: ResourceDescriptor<records.BillingAccountRecord> = describe(billingAccount, {
  kind: records.billingAccounts,
  scope: 'operator',
  payer: (record) => record.id,
  show: (_api, { max_monthly_cost: _old, ...record }) => record,
  handlers: {
    billing_account_create: createBillingAccount,
    billing_account_update: updateBillingAccount,
    billing_account_delete: deleteBillingAccount,
  },
});

/** Checks the decision about the VAT. @throws UcloudError `rule_violated` */
function checkDecision({
  vat_decision,
  vat_number,
}: Pick<records.BillingAccountRecord, 'vat_decision' | 'vat_number'>): void {
  const problem = vat_decision && decisionProblem(vat_decision, vat_number);
  if (problem) throw fieldError('rule_violated', `/vat_decision${problem.pointer}`, problem.rule);
}

async function createBillingAccount(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as BillingAccountBody;
  checkDecision(body);
  const record: records.BillingAccountRecord = {
    id: newId('billing_account'),
    ...body,
    created_at: at,
    updated_at: at,
  };
  const entity = record.legal_entity;
  return mutate(api, request, () => {
    if (!api.mirror.get(records.legalEntities, entity)) {
      const rule = `must be the id of an existing legal entity: there is no ${entity}`;
      throw fieldError('invalid_reference', '/legal_entity', rule);
    }
    return creation(api, billingAccounts, record, {
      guards: [{ condition: present(records.legalEntities, entity) }],
      writes: [put(records.uses, `${entity}/${record.id}`, {})],
    });
  });
}

async function updateBillingAccount(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, billingAccounts, (stored) => {
    const changed: records.BillingAccountRecord = patched(
      billingAccount,
      stored.value,
      request.body as BillingAccountUpdate,
    );
    checkDecision(changed);
    const next = { ...changed, updated_at: request.now.toISOString() };
    // The state of an earlier time must not stop VMs when the account pays in advance again.
    const isStale = next.payment !== stored.value.payment;
    const writes = isStale ? [remove(records.prepaid, stored.id)] : [];
    return replacement(api, request, billingAccounts, stored, next, { writes });
  });
}

/** Checks that all charges of the account are on bills. @throws UcloudError `invalid_state` */
async function checkCharges(api: ApiContext, account: records.BillingAccountRecord, now: Date): Promise<void> {
  const present = now.getTime();
  const ledger = ledgerOf(api);
  const [first] = paidProjects(api.mirror, account.id, { from: 0, to: present })
    .flatMap(({ paid }) => paid.map(({ from }) => from))
    .toSorted((a, b) => a - b);
  for (const text of first === undefined ? [] : monthsBetween(first, present)) {
    const month = parseMonth(text);
    if (!month || (await read(api.store, records.closedMonths, `${account.id}/${text}`))) continue;
    const period = { from: month.from, to: Math.min(month.to, present) };
    if ((await accountLines(ledger, account, month, period, present)).length === 0) continue;
    throw new UcloudError('invalid_state', `${account.id} has charges of ${text} that are on no bill yet`);
  }
}

async function deleteBillingAccount(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, billingAccounts, async (stored) => {
    await checkCharges(api, stored.value, request.now);
    return removal(api, request, billingAccounts, stored, {
      writes: [
        removeReference(stored.value.legal_entity, stored.id),
        remove(records.billGuards, stored.id),
        remove(records.prepaid, stored.id),
      ],
    });
  });
}
