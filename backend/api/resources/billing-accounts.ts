/** Billing accounts: the customers who pay for projects. */
import {
  type BillingAccountBody,
  type BillingAccountUpdate,
  billingAccount,
} from '../../contract/resources/billing-accounts.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { present, put, remove } from '../../store/collection.ts';
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
  show: (_api, record) => record,
  alsoMirrored: [records.budgetGuards],
  handlers: {
    billing_account_create: createBillingAccount,
    billing_account_update: updateBillingAccount,
    billing_account_delete: deleteBillingAccount,
  },
});

async function createBillingAccount(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as BillingAccountBody;
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
    const next = { ...changed, updated_at: request.now.toISOString() };
    return replacement(api, request, billingAccounts, stored, next);
  });
}

async function deleteBillingAccount(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, billingAccounts, (stored) =>
    removal(api, request, billingAccounts, stored, {
      writes: [removeReference(stored.value.legal_entity, stored.id), remove(records.budgetGuards, stored.id)],
    }),
  );
}
