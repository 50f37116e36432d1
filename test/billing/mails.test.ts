/** E-mails: each cause has one, whatever the server answers and whichever process is killed when. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Static, TSchema } from '@sinclair/typebox';
import t, { type Test } from 'tap';
import { type ClosingParts, closeMonth } from '../../backend/billing/closing.ts';
import { ledgerKinds } from '../../backend/billing/ledger/account-bill.ts';
import { MailDelivery, queued } from '../../backend/billing/mail/outbox.ts';
import { createSmtpSender, type SmtpSettings } from '../../backend/billing/mail/smtp.ts';
import { readMail } from '../../backend/cli/mail.ts';
import { mailRecord, oneLine } from '../../backend/model/billing/mail-texts.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, readAll } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { RecordKind, Stored } from '../../backend/store/record-kind.ts';
import type { Store } from '../../backend/store/store.ts';
import { makeCertificates } from '../support/etcd.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSmtp, type TestSmtp } from '../support/smtp.ts';
import { temporaryDirectory, withStore } from '../support/stores.ts';

const never = new AbortController().signal;
const account = newId('billing_account');
const mailTo = (name: string, at = '2026-04-02T00:00:00.000Z'): records.MailRecord =>
  mailRecord(
    {
      account: { id: account, legal_name: name, email: 'acme@customer.example' },
      entity: { legal_name: 'Example Cloud AG', email: 'billing@cloud.example' },
    },
    { subject: `About ${name}`, body: ['First paragraph.', 'Second paragraph — with ünïcode.'] },
    at,
  );
const settings = (smtp: TestSmtp, more: Partial<SmtpSettings> = {}): SmtpSettings => ({
  ...{ host: '::1', port: smtp.port, implicitTls: false, from: 'no-reply@cloud.example', silenceMs: 2_000 },
  ...more,
});

async function partsOf(t: Test, store: Store, clock: { now: number }): Promise<ClosingParts> {
  const kinds = [
    ...ledgerKinds,
    records.closedMonths,
    records.billGuards,
    records.bills,
    records.payments,
    records.mails,
  ];
  const mirror = await openMirror(store, { prefixes: [''], kinds, logger: silentLogger });
  t.teardown(() => mirror.close());
  const orders = mirror.index(records.orders, ({ value }) => value.project);
  return {
    ...{ store, mirror, logger: silentLogger, holds: [], now: () => new Date(clock.now), sendsMails: true },
    ordersOf: (project) => orders.list(project),
    bills: mirror.index(records.bills, ({ value }) => value.billing_account),
    payments: mirror.index(records.payments, ({ value }) => value.billing_account),
  };
}
async function begin(t: Test) {
  const store = await withStore(t);
  const clock = { now: Date.parse('2026-04-02T00:00:00Z') };
  const parts = await partsOf(t, store, clock);
  const queue = async (key: string, mail = mailTo('ACME AG')) => {
    const { require, write } = await queued(parts, key, mail);
    if (write.length > 0) await store.commit({ require, write });
    await parts.mirror.catchUp({ timeoutMs: 5_000 });
    return write.length > 0;
  };
  const run = async (delivery: MailDelivery) => {
    await delivery.run(parts, never);
    await parts.mirror.catchUp({ timeoutMs: 5_000 });
  };
  const all = async <S extends TSchema>(kind: RecordKind<S>) => {
    const found: Stored<Static<S>>[] = [];
    for await (const each of readAll(store, kind)) found.push(each);
    return found;
  };
  return { store, clock, parts, queue, run, all };
}

t.test('an e-mail is sent once, and a repeated cause sends nothing again', async (t) => {
  const { queue, run, all } = await begin(t);
  const smtp = await startSmtp(t);
  const delivery = new MailDelivery(createSmtpSender(settings(smtp)));
  t.equal(await queue('dunning/bill-1/1'), true);
  t.equal(await queue('dunning/bill-1/1'), false, 'it waits already');
  await run(delivery);
  t.equal(await queue('dunning/bill-1/1'), false, 'it was sent');
  await run(delivery);
  t.equal(smtp.mails.length, 1);
  t.match(smtp.mails[0], {
    ...{ from: 'no-reply@cloud.example', to: ['acme@customer.example'] },
    text: /^Subject: About ACME AG\r$/m,
  });
  t.match(smtp.mails[0]?.text, /^Reply-To: Example Cloud AG <billing@cloud.example>\r$/m);
  t.match(smtp.mails[0]?.text, /^Message-ID: <[0-9a-f]{40}@cloud.example>\r$/m);
  t.same(await all(records.mails), []);
  t.match(await all(records.sentMails), [{ id: 'dunning/bill-1/1', value: { outcome: 'sent' } }]);
});

t.test('answers of the server', async (t) => {
  const { queue, run, all, clock } = await begin(t);
  const smtp = await startSmtp(t);
  const delivery = new MailDelivery(createSmtpSender(settings(smtp)));
  const minute = 60_000;

  smtp.answers.push({ at: 'rcpt', code: 451 }, { at: 'data', code: 452 }, undefined);
  await queue('bill/a');
  for (const [pause, mails] of [
    [0, 0],
    [minute / 2, 0],
    [minute, 0],
    [minute, 0],
    [minute, 1],
  ] as const) {
    clock.now += pause;
    await run(delivery);
    t.equal(smtp.mails.length, mails, 'a 4xx answer is a reason to try again, after a growing pause');
  }

  smtp.answers.push({ at: 'rcpt', code: 550 });
  await queue('bill/b');
  await run(delivery);
  t.same(await all(records.mails), [], 'a 5xx answer ends it');
  t.match(
    (await all(records.sentMails)).find(({ id }) => id === 'bill/b'),
    { value: { outcome: 'failed' } },
  );
  const [event] = await all(records.events);
  t.match(event?.value, { target: account, reason: 'mail_failed', severity: 'warning', message: /550/ });

  await queue('bill/c', mailTo('ACME AG', new Date(clock.now).toISOString()));
  for (let hours = 0; hours < 72; hours += 4) {
    smtp.answers.splice(0, 1, { at: 'data', code: 421 });
    await run(delivery);
    t.equal((await all(records.mails)).length, 1);
    clock.now += 4 * 60 * minute;
  }
  smtp.answers.push({ at: 'data', code: 421 });
  await run(delivery);
  t.equal((await all(records.events)).length, 2, 'after three days it has failed');
  t.same(await all(records.mails), []);
});

t.test('a silent server costs a limited time, and other e-mails go on', async (t) => {
  const { queue, run } = await begin(t);
  const smtp = await startSmtp(t);
  smtp.answers.push('hang');
  await queue('bill/a');
  await queue('bill/b');
  const begun = performance.now();
  await run(new MailDelivery(createSmtpSender(settings(smtp, { silenceMs: 60_000, totalMs: 300 }))));
  t.ok(performance.now() - begun < 20_000);
  t.equal(smtp.mails.length, 1);
});

t.test('a kill between the answer of the server and the commit sends the same e-mail again', async (t) => {
  const { queue, run, parts, all } = await begin(t);
  const smtp = await startSmtp(t);
  await queue('bill/a');
  const dying: Store = Object.assign(Object.create(parts.store), {
    get: parts.store.get.bind(parts.store),
    commit: () => Promise.reject(new Error('killed')),
  });
  const killed = new MailDelivery(createSmtpSender(settings(smtp)));
  await t.rejects(killed.run({ ...parts, store: dying }, never), /killed/);
  t.equal((await all(records.mails)).length, 1);
  await run(new MailDelivery(createSmtpSender(settings(smtp))));
  const ids = smtp.mails.map(({ text }) => /^Message-ID: (.*)\r$/m.exec(text)?.[1]);
  t.equal(ids.length, 2, 'at least once');
  t.equal(new Set(ids).size, 1, 'with one Message-ID');
  t.same(await all(records.mails), []);
});

t.test('TLS and credentials', async (t) => {
  const directory = temporaryDirectory(t);
  await makeCertificates(directory);
  const file = (name: string) => readFileSync(join(directory, name), 'utf8');
  const tls = { key: file('server-key.pem'), cert: file('server.pem') };
  const send = (smtp: TestSmtp, more: Partial<SmtpSettings>) =>
    createSmtpSender(settings(smtp, more)).send({ ...mailTo('x'), messageToken: 'abc', files: [] }, never);
  const ca = file('ca.pem');
  const starttls = await startSmtp(t, tls);
  t.match(await send(starttls, { ca, user: 'u', password: 'right' }), { outcome: 'sent' });
  t.match(starttls.mails[0], { secure: true, user: 'u' });
  t.match(await send(starttls, { ca, user: 'u', password: 'wrong' }), { outcome: 'refused', isFinal: false });
  t.match(
    await send(starttls, {}),
    { outcome: 'refused', why: /certificate/i, isFinal: false },
    'an unknown authority',
  );
  const implicit = await startSmtp(t, { ...tls, secure: true });
  t.match(await send(implicit, { ca, implicitTls: true }), { outcome: 'sent' });
  const plain = await startSmtp(t);
  t.match(await send(plain, { user: 'u', password: 'right' }), { outcome: 'refused' }, 'no password without TLS');
  t.equal(plain.mails.length, 0);
});

t.test('names of users begin no headers and add no recipients', async (t) => {
  const smtp = await startSmtp(t);
  const { queue, run } = await begin(t);
  const evil = 'A\r\nBcc: all@victim.example\r\n\r\nbody, "x" <y@victim.example>, \u2028Z\u0000';
  await queue('bill/a', { ...mailTo(evil), subject: `S\r\nX-Evil: 1`, to: { name: evil, email: 'a@b.example' } });
  await run(new MailDelivery(createSmtpSender(settings(smtp))));
  t.same(smtp.mails[0]?.to, ['a@b.example']);
  const head = smtp.mails[0]?.text.split('\r\n\r\n')[0] ?? '';
  t.notMatch(head, /^(Bcc|X-Evil):/im);
  t.equal(oneLine('a\r\n\tb\u0085c\u2028d'), 'a b c d');
});

t.test('a closed month sends its bill as PDF', async (t) => {
  const { store, parts, run } = await begin(t);
  const smtp = await startSmtp(t);
  const at = '2026-01-01T00:00:00.000Z';
  const declared = { labels: {}, created_at: at, updated_at: at, delete_protection: false };
  const party = {
    ...{ legal_name: 'Example AG', email: 'billing@example.com', vat_number: 'CHE-107.787.577 MWST' },
    address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  };
  const [entity, product, project] = [newId('legal_entity'), newId('product'), newId('project')];
  const price = newId('price');
  await store.commit({
    write: [
      put(records.legalEntities, entity, { id: entity, name: 'co', ...party, number_series: 'M-', ...declared }),
      put(records.billingAccounts, account, {
        ...{ id: account, name: 'acme', ...party, currency: 'CHF', legal_entity: entity, customer_kind: 'business' },
        ...{ payment: 'bill', payment_days: 30, ...declared },
      }),
      put(records.products, product, { id: product, name: 'volume', meter: 'volume', description: '', ...declared }),
      put(records.prices, price, {
        ...{ id: price, product, currency: 'CHF', amount: '1', per: 'hour', valid_from: at, minimum_seconds: 0 },
        ...{ labels: {}, created_at: at, updated_at: at },
      }),
      put(records.accountTerms, `${project}/${at}`, { project, name: 'web', since: at, account }),
      put(records.usage, `${project}/2026-03/vol-a/2026-03-02T00:00:00.000Z/x`, {
        ...{ project, order: newId('order'), resource: 'vol-a', title: 'vol-a', labels: {} },
        ...{ until: '2026-03-02T00:00:00.000Z' },
        uses: [{ meter: 'volume', quantity: 2 ** 30, since: '2026-03-01T00:00:00.000Z' }],
      }),
    ],
  });
  await parts.mirror.catchUp({ timeoutMs: 5_000 });
  const stored = parts.mirror.get(records.billingAccounts, account);
  if (!stored) throw new Error('no account');
  const march = monthOf(Date.parse('2026-03-15T00:00:00Z'));
  t.equal((await closeMonth(parts, stored, march)).outcome, 'closed');
  t.equal((await closeMonth(parts, stored, march)).outcome, 'already');
  await parts.mirror.catchUp({ timeoutMs: 5_000 });
  await run(new MailDelivery(createSmtpSender(settings(smtp))));
  t.equal(smtp.mails.length, 1);
  const text = smtp.mails[0]?.text ?? '';
  t.match(text, /^Subject: Bill M-000001\r$/m);
  t.match(text, /Content-Disposition: attachment; filename=M-000001\.pdf/);
  t.match(Buffer.from(/\r\n\r\n(JVBERi[^-]*)/.exec(text)?.[1] ?? '', 'base64').toString('latin1'), /^%PDF-1/);
  const quiet = await queued({ ...parts, sendsMails: false }, 'bill/z', mailTo('x'));
  t.same(quiet.write, [], 'without a mail server nothing is queued');
});

t.test('the options of the command', async (t) => {
  const directory = temporaryDirectory(t);
  const from = { mailFrom: 'a@b.example' };
  t.equal(readMail({}), undefined);
  t.match(readMail({ smtp: 'smtp://mail.example', ...from }), { host: 'mail.example', port: 587, implicitTls: false });
  t.match(readMail({ smtp: 'smtps://[::1]', ...from }), { host: '::1', port: 465, implicitTls: true });
  for (const [options, problem] of [
    [{ smtp: 'smtp://mail.example' }, /--mail-from/],
    [from, /needs --smtp/],
    [{ smtp: 'http://mail.example', ...from }, /is not a mail server/],
    [{ smtp: 'smtp://u:p@mail.example', ...from }, /must not contain a password/],
    [{ smtp: 'smtp://u@mail.example', ...from }, /--smtp-password-file/],
    [{ smtp: 'smtp://mail.example', mailFrom: 'a@b.example>\r\nRCPT TO:<x' }, /not an e-mail address/],
    [{ smtp: 'smtp://u@m.example', smtpPasswordFile: join(directory, 'no'), ...from }, /ENOENT/],
  ] as const) {
    t.throws(() => readMail(options), problem, JSON.stringify(options));
  }
});
