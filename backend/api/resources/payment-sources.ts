/** Payment sources, and the payments that they report. http/signatures.ts has verified the signature of an event before. */
import { createHash, randomBytes } from 'node:crypto';
import { UcloudError } from '../../contract/errors.ts';
import {
  PaymentEvent,
  type PaymentSourceBody,
  type PaymentSourceUpdate,
  paymentSource,
} from '../../contract/resources/payment-sources.ts';
import type { PaymentBody } from '../../contract/resources/payments.ts';
import { secretPrefix } from '../../model/billing/webhook-signature.ts';
import { newEvent } from '../../model/events.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { excess } from '../../model/text/json-scan.ts';
import { absent, present, put, read, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { bodyChecker, fieldError, invalidInput } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { answerWith, creation, readPatch, removal, replacement } from '../transaction/declarations.ts';
import { type Decision, mutate } from '../transaction/mutate.ts';
import { paymentRecord, payments, recording } from './payments.ts';

/** The descriptor of payment sources. */
export const paymentSources: ResourceDescriptor<records.PaymentSourceRecord> = describe(paymentSource, {
  kind: records.paymentSources,
  scope: 'operator',
  show: (_api, { key: _key, created_by: _creator, events: _events, ...record }) => record,
  handlers: {
    payment_source_create: createSource,
    payment_source_update: updateSource,
    payment_source_delete: deleteSource,
    payment_source_event: handleEvent,
  },
});

const keyBytes = 32;

async function createSource(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const { name, labels, replaces } = request.body as PaymentSourceBody;
  const id = newId('payment_source');
  const key = randomBytes(keyBytes).toString('base64');
  return mutate(api, request, () => {
    const earlier = replaces === undefined ? undefined : api.mirror.get(records.paymentSources, replaces);
    if (replaces !== undefined && !earlier) {
      const rule = `must be the id of an existing payment source: there is no ${replaces}`;
      throw fieldError('invalid_reference', '/replaces', rule);
    }
    const record: records.PaymentSourceRecord = {
      ...{ id, name, labels, key, created_by: request.caller.token, events: earlier?.value.events ?? id },
      ...(replaces !== undefined && { replaces }),
      ...{ created_at: at, updated_at: at },
    };
    return creation(api, paymentSources, record, {
      guards: replaces === undefined ? [] : [{ condition: present(records.paymentSources, replaces) }],
      shown: { secret: `${secretPrefix}${key}` },
    });
  });
}

async function updateSource(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<PaymentSourceUpdate>(paymentSource, request.body as PaymentSourceUpdate);
  return changeObject(api, request, paymentSources, (stored) =>
    replacement(api, request, paymentSources, stored, {
      ...{ ...stored.value, ...patch, updated_at: request.now.toISOString() },
    }),
  );
}

async function deleteSource(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, paymentSources, (stored) => removal(api, request, paymentSources, stored));
}

const checkEvent = bodyChecker(PaymentEvent);
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Returns the event in the body. @throws UcloudError `invalid_input` */
function eventIn(body: Buffer): PaymentEvent {
  const broken = (detail: string) => invalidInput([{ pointer: '', detail }]);
  let event: unknown;
  try {
    const text = utf8.decode(body);
    const problem = excess(text);
    if (problem !== undefined) throw broken(problem);
    event = JSON.parse(text);
  } catch (error) {
    throw error instanceof UcloudError ? error : broken('must be JSON in UTF-8');
  }
  checkEvent(event);
  return event as PaymentEvent;
}

/** Returns the bill with a number. @throws UcloudError `invalid_reference` */
function billOf({ mirror }: ApiContext, number: string): records.BillRecord {
  const [found, ...others] = [...mirror.by(records.bills, 'number').list(number)];
  if (found && others.length === 0) return found.value;
  throw fieldError('invalid_reference', '/data/bill_number', `must be the number of a bill: there is no ${number}`);
}

/** Returns the body of the payment that an event reports. @throws UcloudError `invalid_input`, `invalid_reference` */
function bodyOf(api: ApiContext, { type, data }: PaymentEvent): PaymentBody {
  const { billing_account, bill_number, amount, received_on, reference = '' } = data;
  const bill = bill_number === undefined ? undefined : billOf(api, bill_number);
  const account = billing_account ?? bill?.billing_account;
  if (account === undefined) {
    throw fieldError('invalid_input', '/data/billing_account', 'is required unless `bill_number` names a bill');
  }
  return {
    ...{ billing_account: account, kind: type === 'payment.received' ? 'received' : 'refunded', amount, reference },
    ...(bill && { bill: bill.id }),
    ...(received_on !== undefined && { received_on }),
  };
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The keys of the records about the event of a payment. The service chooses the id, so its hash is in the key. */
const eventKey = ({ events }: records.PaymentSourceRecord, { external_id }: PaymentEvent['data']): string =>
  `${events}/${digest(external_id)}`;

/** The errors that a repetition of the event does not end. */
const refusals: ReadonlySet<string> = new Set([
  'invalid_input',
  'invalid_reference',
  'rule_violated',
  'payment_exists',
]);
const maxMessageLength = 1000;

/** Tells operators once that money has come which is not recorded. The service alone knows of the error otherwise. */
async function tellRefusal(api: ApiContext, request: ApiRequest, event: PaymentEvent, error: UcloudError) {
  const stored = api.mirror.get(records.paymentSources, request.params.id ?? '');
  if (!stored) return;
  const { type, data } = event;
  const key = eventKey(stored.value, data);
  const [why] = error.errors;
  const facts = [
    `${type} ${data.external_id}: ${data.amount} ${data.currency}`,
    `reference "${data.reference ?? ''}"`,
    ...(data.bill_number === undefined ? [] : [`bill ${data.bill_number}`]),
    ...(data.billing_account === undefined ? [] : [`account ${data.billing_account}`]),
  ].join(', ');
  const message = `Refused a payment. ${facts}. Reason: ${why ? `${why.pointer} ${why.detail}` : error.message}.`;
  await api.store.commit({
    require: [unchanged(stored), absent(records.paymentRefusals, key)],
    write: [
      put(records.paymentRefusals, key, { at: request.now.toISOString() }),
      put(
        records.events,
        ...newEvent(request.now, stored, {
          ...{ severity: 'warning', reason: 'payment_refused', message: message.slice(0, maxMessageLength) },
        }),
      ),
    ],
  });
}

/** Records the payment that an event reports. Operators learn of one that is refused. */
async function handleEvent(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const event = eventIn(request.body as Buffer);
  try {
    return await recordEvent(api, request, event);
  } catch (error) {
    if (error instanceof UcloudError && refusals.has(error.code)) await tellRefusal(api, request, event, error);
    throw error;
  }
}

/** Records a payment once, however often and in whichever order its event comes. */
async function recordEvent(api: ApiContext, request: ApiRequest, { type, data }: PaymentEvent): Promise<ApiAnswer> {
  const id = newId('payment');
  const source = request.params.id ?? '';
  return mutate(api, request, async (): Promise<Decision> => {
    const stored = api.mirror.get(records.paymentSources, source);
    if (!stored) throw new UcloudError('unauthenticated', 'the payment source was deleted meanwhile');
    const body = bodyOf(api, { type, data });
    const record: records.PaymentRecord = {
      ...paymentRecord(api, { body, at: '/data' }, request.now, id),
      ...{ source: stored.value.id, external_id: data.external_id },
    };
    const { billing_account, kind, amount, currency, bill, reference } = record;
    if (data.currency !== currency) {
      throw fieldError('rule_violated', '/data/currency', `must be ${currency}, the currency of ${billing_account}`);
    }
    const content = digest(
      JSON.stringify([billing_account, kind, amount, currency, bill ?? '', reference, data.received_on ?? '']),
    );
    const key = eventKey(stored.value, data);
    const known = await read(api.store, records.paymentEvents, key);
    if (known && known.value.content === content) {
      const payment = await read(api.store, records.payments, known.value.payment);
      if (payment) return { nothing: answerWith(api, payments, payment, 200) };
    }
    if (known) {
      const detail = `the payment ${known.value.payment} has this id and another content`;
      throw new UcloudError('payment_exists', detail, { errors: [{ pointer: '/data/external_id', detail }] });
    }
    const change = recording(api, record);
    return {
      ...change,
      guards: [
        ...change.guards,
        { condition: absent(records.paymentEvents, key) },
        { condition: present(records.paymentSources, source) },
      ],
      writes: [...change.writes, put(records.paymentEvents, key, { payment: id, content })],
      answer: (revision) =>
        answerWith(
          api,
          payments,
          { key: records.payments.prefix + id, id, value: record, revision, created: revision },
          200,
        ),
    };
  });
}
