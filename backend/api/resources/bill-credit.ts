/** The credit note of a bill. It is final at once, with the next number of the series. */
import { finalBill } from '../../billing/ledger/final-bill.ts';
import { UcloudError } from '../../contract/errors.ts';
import type { BillDocument } from '../../model/billing/bill-document.ts';
import { type Credit, creditNote } from '../../model/billing/credit-note.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, rewrite, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { ResourceDescriptor } from '../requests/descriptor.ts';
import { find, notFound } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { mutate } from '../transaction/mutate.ts';

interface Body {
  readonly reason: string;
  readonly lines?: readonly Credit[];
}

/** Creates the credit note. @throws UcloudError `not_found`, `invalid_state`, `rule_violated` */
export function creditBill(
  api: ApiContext,
  request: ApiRequest,
  bills: ResourceDescriptor<records.BillRecord>,
): Promise<ApiAnswer> {
  const { reason, lines } = request.body as Body;
  const { store, mirror } = api;
  return mutate(api, request, async () => {
    const { id, value: bill } = find(api, bills, request.caller, request.params.id ?? '');
    if (bill.kind === 'credit_note') throw new UcloudError('invalid_state', `${bill.number} is a credit note`);
    const [account, entity, stored, before] = [
      mirror.get(records.billingAccounts, bill.billing_account),
      mirror.get(records.legalEntities, bill.legal_entity),
      await read(store, records.billDocuments, id),
      await read(store, records.billCredits, id),
    ];
    if (!account || !entity || !stored) throw notFound('bill', id);
    const result = creditNote({
      bill: JSON.parse(stored.value.json) as BillDocument,
      credited: before?.value.lines ?? {},
      ...{ asked: lines, reason, at: request.now.getTime() },
    });
    if (!result.ok) throw fieldError('rule_violated', result.pointer, result.rule);
    const credits = { lines: { ...result.credited } };
    const { record, require, write } = await finalBill(store, {
      ...{ bill: result.note, account: account.value, entity, month: bill.month, at: request.now, corrects: bill.id },
    });
    return {
      guards: [
        { condition: before ? unchanged(before) : absent(records.billCredits, id) },
        ...require.map((condition) => ({ condition })),
      ],
      writes: [
        before ? rewrite(records.billCredits, before, credits) : put(records.billCredits, id, credits),
        ...write,
      ],
      target: record.id,
      quotaDelta: undefined,
      reason: 'created',
      message: `Created the credit note ${record.number} for ${bill.number}: ${record.gross} ${record.currency}.`,
      answer: {
        status: 201,
        body: bills.show(api, record),
        location: `/v1/bills/${record.id}`,
      },
    };
  });
}
