/** VAT rates of operators. They never change, so that bills can be explained later. */
import { UcloudError } from '../../contract/errors.ts';
import { type VatRateBody, vatRate } from '../../contract/resources/vat-rates.ts';
import { dayText } from '../../model/billing/months.ts';
import { vatRateProblem } from '../../model/billing/vat-rates.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, remove } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, removal } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

/** The descriptor of VAT rates. */
export const vatRates: ResourceDescriptor<records.VatRateRecord> = describe(vatRate, {
  kind: records.vatRates,
  scope: 'operator',
  show: (_api, record) => record,
  handlers: { vat_rate_create: createVatRate, vat_rate_delete: deleteVatRate },
});

const startKey = ({ country, valid_from }: records.VatRateRecord): string => `${country}/${valid_from}`;

const startIsFree = (record: records.VatRateRecord): Guard => ({
  condition: absent(records.vatRateStarts, startKey(record)),
  otherwise: ([entry]) => {
    const holder: unknown = entry && JSON.parse(entry.value).id;
    const detail = `the rate ${String(holder)} of ${record.country} applies from ${record.valid_from} on, too`;
    return new UcloudError('vat_rate_exists', detail, { errors: [{ pointer: '/valid_from', detail }] });
  },
});

async function createVatRate(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as VatRateBody;
  const problem = vatRateProblem(body);
  if (problem) throw fieldError('rule_violated', `/${problem.field}`, problem.rule);
  const record: records.VatRateRecord = { id: newId('vat_rate'), ...body, created_at: at, updated_at: at };
  return mutate(api, request, () =>
    creation(api, vatRates, record, {
      guards: [startIsFree(record)],
      writes: [put(records.vatRateStarts, startKey(record), { id: record.id })],
    }),
  );
}

/** Deletes a rate of the future: no final bill can contain it. */
async function deleteVatRate(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, vatRates, (stored) => {
    const { country, valid_from } = stored.value;
    if (valid_from <= dayText(request.now.getTime())) {
      const detail = `the rate of ${country} applies since ${valid_from}: create one with a later day instead`;
      throw new UcloudError('invalid_state', detail);
    }
    return removal(api, request, vatRates, stored, { writes: [remove(records.vatRateStarts, startKey(stored.value))] });
  });
}
