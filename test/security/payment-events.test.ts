/** Payments that arrive over webhooks: forged, replayed, reordered and oversized ones. The signer is a library that is not ours. */
import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { isSigned, signatureOf, toleranceSeconds } from '../../backend/model/billing/webhook-signature.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { contentOf, startTestApi } from '../support/api.ts';

interface Sent {
  readonly type?: string;
  readonly data?: Record<string, unknown>;
}
const party = {
  ...{ legal_name: 'Example AG', email: 'billing@example.com' },
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
};

async function begin(t: Test, options: Parameters<typeof startTestApi>[1] = {}) {
  const test = await startTestApi(t, options);
  const { operator, store } = test;
  const entity = await operator.create('legal-entities', { ...party, name: 'co', number_series: 'A-' });
  const { id: account } = await operator.create('billing-accounts', {
    ...{ ...party, name: 'acme', currency: 'CHF', legal_entity: entity.id },
  });
  const bill = newId('bill');
  const at = new Date().toISOString();
  await store.commit({
    write: [
      put(records.bills, bill, {
        ...{ id: bill, labels: {}, number: 'A-000001', billing_account: account as Id<'billing_account'> },
        ...{ legal_entity: entity.id as Id<'legal_entity'>, month: '2026-01', issue_date: '2026-02-01' },
        ...{ due_date: '2026-03-01', currency: 'CHF', net: '50.00', vat: '0.00', gross: '50.00', sha256: '' },
        ...{ created_at: at, updated_at: at },
      }),
    ],
  });
  const source = await operator.create('payment-sources', { name: 'bank' });
  const stranger = test.client(undefined);
  let message = 0;
  const headersFor = (text: string, secret = source.secret, when = new Date()) => {
    const id = `msg_${++message}`;
    return {
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(when.getTime() / 1000)),
      'webhook-signature': new Webhook(secret).sign(id, when, text),
    };
  };
  const path = (id = source.id) => `/v1/payment-sources/${id}/events`;
  const event = (data: object, type = 'payment.received'): Sent => ({
    type,
    data: { external_id: 'tx-1', billing_account: account, amount: '20.00', currency: 'CHF', ...data },
  });
  const send = (body: Sent, { secret, id }: { secret?: string; id?: string } = {}) => {
    const text = JSON.stringify(body);
    return stranger.request('POST', path(id), text, headersFor(text, secret));
  };
  const balance = async () => (await operator.expect(200, 'GET', `/v1/billing-accounts/${account}/balance`)).body;
  return { ...test, account, bill, source, stranger, headersFor, path, event, send, balance };
}

t.test('an event is one payment, however often and in whichever order it comes', async (t) => {
  const { operator, account, bill, source, send, event, balance } = await begin(t);
  t.match(source.secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
  t.notMatch(JSON.stringify(await operator.list('payment-sources')), /whsec_|"key"/, 'the secret is shown once');

  const refund = event({ external_id: 'tx-2', amount: '5', received_on: '2026-02-03' }, 'payment.refunded');
  t.match(await send(refund), { status: 200, body: { kind: 'refunded', amount: '5.00' } });
  const receipt = event({ billing_account: undefined, bill_number: 'A-000001', reference: 'Zürich' });
  const answers = await Promise.all(Array.from({ length: 12 }, () => send(receipt)));
  for (const answer of answers) t.equal(answer.status, 200, JSON.stringify(answer.body));
  t.equal(new Set(answers.map(({ body }) => body.id)).size, 1);
  t.match(answers[0]?.body, {
    ...{ billing_account: account, bill, amount: '20.00', reference: 'Zürich', source: source.id, external_id: 'tx-1' },
  });
  t.match(await balance(), { received: '20.00', refunded: '5.00', balance: '-35.00' });

  for (const change of [
    { amount: '20.01' },
    { reference: 'other' },
    { received_on: '2026-02-01' },
    { bill_number: undefined },
  ]) {
    const answer = await send(event({ ...receipt.data, billing_account: account, ...change }));
    t.match(answer, { status: 409, body: { code: 'payment_exists' } }, JSON.stringify(change));
  }
  t.match(await send({ ...receipt, type: 'payment.refunded' }), { status: 409 });
  t.match(await balance(), { received: '20.00', refunded: '5.00' });

  const next = await operator.create('payment-sources', { name: 'bank-2', replaces: source.id });
  const again = await send(receipt, { secret: next.secret, id: next.id });
  t.equal(again.body.id, answers[0]?.body.id, 'the next source of the same service reports the same payment');
  await operator.remove('payment-sources', source.id);
  t.equal((await send(receipt)).status, 401, 'a deleted source reports nothing more');
  t.equal((await send(receipt, { secret: next.secret, id: next.id })).status, 200);
  const other = await operator.create('payment-sources', { name: 'other' });
  const theirs = await send(receipt, { secret: other.secret, id: other.id });
  t.equal(theirs.status, 200);
  t.not(theirs.body.id, answers[0]?.body.id, 'another service has ids of its own');
});

t.test('a forged, old or altered event changes nothing, and tells nothing', async (t) => {
  const { store, source, stranger, headersFor, path, event, operator, member, project } = await begin(t);
  const text = JSON.stringify(event({}));
  const good = headersFor(text);
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  const token = await member(project);
  const before = await contentOf(store);
  const second = 1000;
  const at = (seconds: number) => headersFor(text, source.secret, new Date(Date.now() + seconds * second));
  const signature = good['webhook-signature'];
  const rows: readonly (readonly [what: string, headers: Record<string, string>, body?: string, id?: string])[] = [
    ['no headers', {}],
    ['no signature', { ...good, 'webhook-signature': '' }],
    ['another key', headersFor(text, secret)],
    ['another version', { ...good, 'webhook-signature': signature.replace('v1,', 'v1a,') }],
    ['no version', { ...good, 'webhook-signature': signature.slice(3) }],
    ['another id', { ...good, 'webhook-id': 'msg_x' }],
    ['a moved dot', { ...good, 'webhook-id': `${good['webhook-id']}.1` }],
    ['another time', { ...good, 'webhook-timestamp': String(Number(good['webhook-timestamp']) + 1) }],
    ['a time in words', { ...good, 'webhook-timestamp': `${good['webhook-timestamp']}x` }],
    ['another body', good, text.replace('20.00', '2000.00')],
    ['a space more', good, `${text} `],
    ['an old one', at(-toleranceSeconds - 5)],
    ['one of the future', at(toleranceSeconds + 5)],
    ['an unknown source', good, text, 'psrc-0000000000000000'],
    ['no source', good, text, 'x'],
    ['a cut signature', { ...good, 'webhook-signature': signature.slice(0, -2) }],
  ];
  const told = new Set<string>();
  for (const [what, headers, body = text, id] of rows) {
    const answer = await stranger.request('POST', path(id), body, headers);
    t.match(answer, { status: 401, body: { code: 'unauthenticated' } }, what);
    told.add(JSON.stringify({ ...answer.body, request_id: '' }));
  }
  t.equal(told.size, 1, 'all answers are the same');
  t.equal((await token.request('POST', path(), text)).status, 401, 'a token is no signature');
  t.equal((await operator.request('POST', path(), text)).status, 401);
  t.same(await contentOf(store), before);
  const answer = await stranger.request('POST', path(), text, {
    ...good,
    'webhook-signature': `v1,AAAA v2,x ${signature}`,
  });
  t.equal(answer.status, 200, 'one of several signatures is enough, as in a change of secrets');
});

t.test('a signed event of bad content gets an error that names the field', async (t) => {
  const { store, stranger, headersFor, path, event, send } = await begin(t);
  const content = async () =>
    [...(await contentOf(store))].filter(([key]) => !key.startsWith(records.paymentRefusals.prefix));
  const before = await content();
  const rows: readonly (readonly [data: object, status: number, pointer: string])[] = [
    [{ amount: '0' }, 422, '/data/amount'],
    [{ amount: '-5' }, 400, '/data/amount'],
    [{ amount: '0.001' }, 422, '/data/amount'],
    [{ amount: 20 }, 400, '/data/amount'],
    [{ currency: 'EUR' }, 422, '/data/currency'],
    [{ currency: 'XXX' }, 400, '/data/currency'],
    [{ received_on: '2026-02-31' }, 400, '/data/received_on'],
    [{ received_on: '9999-01-01' }, 422, '/data/received_on'],
    [{ reference: 'a\r\nBcc: all@example.com' }, 400, '/data/reference'],
    [{ billing_account: 'acct-0000000000000000' }, 422, '/data/billing_account'],
    [{ billing_account: undefined }, 400, '/data/billing_account'],
    [{ bill_number: 'A-999999' }, 422, '/data/bill_number'],
    [{ external_id: '' }, 400, '/data/external_id'],
    [{ external_id: 'x'.repeat(201) }, 400, '/data/external_id'],
    [{ external_id: '\u0000' }, 400, '/data/external_id'],
  ];
  for (const [data, status, pointer] of rows) {
    t.match(await send(event(data)), { status, body: { errors: [{ pointer }] } }, JSON.stringify(data));
  }
  t.match(await send({ ...event({}), type: 'payment.lost' }), {
    status: 400,
    body: { errors: [{ pointer: '/type' }] },
  });
  const raw = (body: string, more: Record<string, string> = {}) =>
    stranger.request('POST', path(), body, { ...headersFor(body), 'content-type': 'application/json', ...more });
  for (const body of ['{', '[]', 'null', '"x"', `${'['.repeat(5_000)}${']'.repeat(5_000)}`, '{"__proto__":{"type":1}}'])
    t.match(await raw(body), { status: 400, body: { code: 'invalid_input' } }, body.slice(0, 20));
  t.match(await raw('{}', { 'content-type': 'text/plain' }), { status: 415 });
  t.match(await raw('{}', { 'content-encoding': 'gzip' }), { status: 415 });
  const large = JSON.stringify(event({ reference: 'x'.repeat(70_000) }));
  t.match(await raw(large), { status: 413, body: { code: 'payload_too_large' } });
  t.same(await content(), before, 'nothing but the traces of refused payments');
});

t.test('operators learn once of each payment that is refused', async (t) => {
  const { operator, store, source, account, send, event, balance } = await begin(t);
  const told = async () =>
    (await operator.list('events', `?target=${source.id}&limit=1000`)).items
      .filter(({ reason }) => reason === 'payment_refused')
      .map(({ message }) => message as string);
  const rows: readonly (readonly [data: object, words: RegExp])[] = [
    [{ bill_number: 'A-999999', reference: 'Rechnung März' }, /20\.00 CHF, reference "Rechnung März", bill A-999999/],
    [{ billing_account: 'acct-0000000000000000' }, /account acct-0000000000000000\. Reason: \/data\/billing_account/],
    [{ billing_account: undefined }, /Reason: \/data\/billing_account is required/],
    [{ currency: 'EUR' }, /20\.00 EUR.*must be CHF/],
    [{ amount: '0.001' }, /0\.001 CHF.*\/data\/amount/],
  ];
  for (const [index, [data, words]] of rows.entries()) {
    const refused = event({ external_id: `wrong-${index}`, ...data });
    const answers = await Promise.all(Array.from({ length: 4 }, () => send(refused)));
    for (const { status } of answers) t.ok(status === 422 || status === 400, `${status}`);
    const own = (await told()).filter((message) => message.includes(`wrong-${index}:`));
    t.equal(own.length, 1, 'however often it comes');
    t.match(own[0], words);
  }
  const next = await operator.create('payment-sources', { name: 'bank-2', replaces: source.id });
  const again = event({ external_id: 'wrong-0', bill_number: 'A-999999' });
  t.equal((await send(again, { secret: next.secret, id: next.id })).status, 422);
  t.equal((await operator.list('events', `?target=${next.id}`)).items.filter((e) => e.reason !== 'created').length, 0);

  t.equal((await send(event({ external_id: 'wrong-0' }))).status, 200, 'a refused payment can come right');
  t.equal((await send(event({ external_id: 'wrong-0', amount: '21' }))).status, 409);
  t.equal((await send(event({ external_id: 'right' }))).status, 200);
  t.equal((await send(event({ external_id: 'right', amount: '21' }))).status, 409);
  const all = await told();
  t.equal(all.length, rows.length + 1);
  t.match(
    all.find((message) => message.includes('right:')),
    /21 CHF.*another content/,
  );
  t.match(await balance(), { billing_account: account, received: '40.00' });
  t.equal((await store.list(records.paymentRefusals.prefix, { limit: 100 })).entries.length, rows.length + 1);
});

t.test('wrong signatures are throttled as wrong tokens are, and right ones go on', async (t) => {
  const { operator, stranger, path, event, send } = await begin(t, {
    rateLimit: { requestsPerMinute: 6_000, failuresPerMinute: 5 },
  });
  for (let i = 0; i < 5; i++) await stranger.expect(401, 'POST', path(), event({}));
  const refused = await stranger.expect(429, 'POST', path(), event({}));
  t.match(refused.headers.get('retry-after'), /^\d+$/);
  t.equal((await send(event({}))).status, 200, 'a signature that is right passes');
  await operator.expect(200, 'GET', '/v1/payment-sources');
});

t.test('only the bytes that were signed have the signature', async (t) => {
  const now = 1_800_000_000_000;
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 32 }),
      fc.uint8Array({ maxLength: 50 }),
      fc.uint8Array({ maxLength: 50 }),
      fc.integer({ min: -toleranceSeconds - 3, max: toleranceSeconds + 3 }),
      (key, body, other, age) => {
        const message = { id: 'msg', timestamp: String(now / 1000 - age), body };
        const signatures = `v1,${signatureOf(key, message)}`;
        const byHand = createHmac('sha256', key)
          .update(Buffer.concat([Buffer.from(`msg.${message.timestamp}.`), body]))
          .digest('base64');
        const isSame = Buffer.compare(body, other) === 0;
        return (
          signatures === `v1,${byHand}` &&
          isSigned(key, { ...message, signatures }, now) === Math.abs(age) <= toleranceSeconds &&
          (isSame || !isSigned(key, { ...message, body: other, signatures }, now))
        );
      },
    ),
  );
  t.pass();
});
