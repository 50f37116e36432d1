/** The verification of VAT numbers: VIES in good times, and in its outages, in which a number is never invalid. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { VatAnswer } from '../../backend/billing/vies/verifier.ts';
import { createVies, type ViesOptions } from '../../backend/billing/vies/vies.ts';
import { parseVatNumber, type VatNumber } from '../../backend/model/billing/vat-numbers.ts';
import { until } from '../support/eventually.ts';
import { startViesServer, type ViesWeather } from '../support/vies-server.ts';

const at = '2026-03-31T12:00:00.000Z';
const numberOf = (text: string): VatNumber => {
  const parsed = parseVatNumber(text);
  if (!parsed.ok) throw new Error(`${text} ${parsed.problem}`);
  return parsed.number;
};
const belgian = numberOf('BE0403019261');
const greek = numberOf('EL094259216');
const german = numberOf('DE136695976');

async function start(t: Test, options: ViesOptions = {}) {
  const server = await startViesServer(t);
  server.businesses.set('BE0403019261', { name: 'Client\u0007 SA', address: 'Rue 1\n4000 Liège' });
  server.businesses.set('EL094259216', { name: '---', address: '---' });
  server.requesters.add('DE136695976');
  const vies = createVies({ endpoint: server.endpoint, now: () => new Date(at), ...options });
  t.teardown(() => vies.close());
  return { server, vies };
}

t.test('answers', async (t) => {
  const { server, vies } = await start(t);
  t.same(await vies.verify(belgian), { answer: 'valid', name: 'Client SA', address: 'Rue 1\n4000 Liège', at });
  t.same(server.questions.at(-1), { countryCode: 'BE', vatNumber: '0403019261' });
  t.same(await vies.verify(greek, german), { answer: 'valid', consultation_number: 'WAPI2', at }, 'no name, a proof');
  t.same(server.questions.at(-1), {
    countryCode: 'EL',
    vatNumber: '094259216',
    requesterMemberStateCode: 'DE',
    requesterNumber: '136695976',
  });
  t.same(await vies.verify(numberOf('ATU12011204'), german), { answer: 'invalid', consultation_number: 'WAPI3', at });
  const before = server.questions.length;
  for (const text of ['CHE107787577MWST', 'GB980780684', 'NO995525828MVA']) {
    const answer = await vies.verify(numberOf(text));
    t.match(answer, { answer: 'unknown', reason: /^not in VIES/, retry_after: undefined }, text);
  }
  t.equal(server.questions.length, before, 'VIES is not asked');
  // A legal entity outside of the EU cannot be a requester. Its question is a plain one.
  t.match(await vies.verify(belgian, numberOf('CHE107787577MWST')), { answer: 'valid' });
  t.equal(server.questions.at(-1)?.requesterNumber, undefined);
});

t.test('outages are never an answer', async (t) => {
  const { server, vies } = await start(t, { deadlineMs: 120_000, maxBodyBytes: 4096 });
  const hasty = createVies({ endpoint: server.endpoint, deadlineMs: 500 });
  t.teardown(() => hasty.close());
  const other = await startViesServer(t);
  const ok = { countryCode: 'BE', vatNumber: '0403019261' };
  const body = (value: unknown) => ({ kind: 'body', text: JSON.stringify(value) }) as const;
  for (const [weather, reason, retry] of [
    [{ kind: 'error', code: 'MS_UNAVAILABLE' }, /register of the country is not available/, 900],
    [{ kind: 'error', code: 'MS_UNAVAILABLE', status: 200 }, /register of the country is not available/, 900],
    [{ kind: 'error', code: 'MS_MAX_CONCURRENT_REQ' }, /register of the country has too many requests/, 60],
    [{ kind: 'error', code: 'MS_MAX_CONCURRENT_REQ', retryAfter: '7' }, /too many requests/, 7],
    [{ kind: 'error', code: 'MS_MAX_CONCURRENT_REQ', retryAfter: '999999999' }, /too many requests/, 86_400],
    [{ kind: 'error', code: 'MS_MAX_CONCURRENT_REQ', retryAfter: 'soon' }, /too many requests/, 60],
    [{ kind: 'error', code: 'GLOBAL_MAX_CONCURRENT_REQ' }, /VIES has too many requests/, 60],
    [{ kind: 'error', code: 'TIMEOUT' }, /does not answer in time/, 900],
    [{ kind: 'error', code: 'SERVICE_UNAVAILABLE', status: 503 }, /VIES is not available/, 900],
    [{ kind: 'error', code: 'IP_BLOCKED' }, /blocks this machine/, 86_400],
    [{ kind: 'error', code: 'INVALID_REQUESTER_INFO', status: 400 }, /refuses the VAT number of the legal/, undefined],
    [{ kind: 'error', code: 'SOMETHING_NEW' }, /VIES answers "SOMETHING_NEW"/, 900],
    [{ kind: 'error', code: 'constructor' }, /VIES answers "constructor"/, 900],
    [{ kind: 'body', text: '<html>Maintenance</html>', type: 'text/html' }, /cannot be understood/, 900],
    [{ kind: 'body', text: '<html>Bad gateway</html>', type: 'text/html', status: 502 }, /status 502/, 900],
    [{ kind: 'body', text: '{}', status: 500 }, /status 500/, 900],
    [{ kind: 'body', text: '' }, /cannot be understood/, 900],
    [{ kind: 'body', text: 'null' }, /cannot be understood/, 900],
    [{ kind: 'body', text: '[]' }, /cannot be understood/, 900],
    [body({ ...ok, valid: 'true' }), /cannot be understood/, 900],
    [body({ ...ok, valid: false, userError: 'MS_UNAVAILABLE' }), /is not available/, 900],
    [body({ ...ok, vatNumber: '1', valid: true }), /about another number/, 900],
    [body({ ...ok, countryCode: 'DE', valid: true }), /about another number/, 900],
    [{ kind: 'redirect', to: `${other.endpoint}/check-vat-number` }, /status 307/, 900],
    [{ kind: 'silent' }, /does not answer within 0.5 s/, 900],
    [{ kind: 'half' }, /does not answer within 0.5 s/, 900],
    [{ kind: 'cut' }, /cannot be reached/, 900],
    [{ kind: 'endless' }, /too long/, 900],
  ] as const satisfies readonly (readonly [ViesWeather, RegExp, number | undefined])[]) {
    server.weather = weather;
    // Only these two reach the deadline. A short one would end other answers of a busy machine.
    const isEndless = weather.kind === 'silent' || weather.kind === 'half';
    const answer = await (isEndless ? hasty : vies).verify(belgian);
    t.match(answer, { answer: 'unknown', reason }, JSON.stringify(weather));
    t.equal('retry_after' in answer ? answer.retry_after : undefined, retry, JSON.stringify(weather));
  }
  t.equal(other.questions.length, 0, 'no other host was asked');
  server.weather = { kind: 'good' };
  t.match(await vies.verify(belgian), { answer: 'valid' }, 'the next good answer counts');
  server.close();
  t.match(await vies.verify(belgian), { answer: 'unknown', reason: /cannot be reached/ }, 'no server');
});

t.test('a refused input concerns the customer only if the requester is fine', async (t) => {
  const { server, vies } = await start(t);
  server.weather = { kind: 'error', code: 'INVALID_INPUT', status: 400 };
  t.same(await vies.verify(belgian), { answer: 'invalid', at });
  t.same(await vies.verify(belgian, german), { answer: 'invalid', at });
  t.equal(server.questions.length, 3, 'the second time, also without the requester');
  const answers: ViesWeather[] = [{ kind: 'error', code: 'INVALID_INPUT', status: 400 }, { kind: 'good' }];
  Object.defineProperty(server, 'weather', { get: () => answers.shift() });
  t.match(await vies.verify(belgian, german), { answer: 'unknown', reason: /refuses the VAT number of the legal/ });
});

t.test('an abort ends the question, and no connection stays after a fault', async (t) => {
  const { server, vies } = await start(t, { deadlineMs: 60_000 });
  server.weather = { kind: 'silent' };
  const abort = new AbortController();
  const asked = vies.verify(belgian, undefined, abort.signal);
  await until('the question', () => server.questions.length > 0);
  abort.abort(new Error('the component stops'));
  await t.rejects(asked, /the component stops/);
  await t.rejects(vies.verify(belgian, undefined, abort.signal), /the component stops/);
  await until('the connection ends', async () => (await server.connections()) === 0);
  t.equal(server.questions.length, 1);
});

t.test('any body is an answer or unknown', async (t) => {
  const { server, vies } = await start(t);
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc
      .dictionary(fc.constantFrom('valid', 'name', 'userError', 'errorWrappers', 'requestIdentifier'), fc.jsonValue())
      .map((value) => JSON.stringify({ countryCode: 'BE', vatNumber: '0403019261', ...value })),
  );
  await fc.assert(
    fc.asyncProperty(text, fc.constantFrom(200, 400, 500), async (text, status) => {
      server.weather = { kind: 'body', text, status };
      const answer: VatAnswer = await vies.verify(belgian);
      if (answer.answer === 'unknown') return answer.reason !== '';
      return text.includes('"valid"') || text.includes('INVALID_INPUT');
    }),
    { numRuns: 300 },
  );
});

t.test('endpoints', async (t) => {
  for (const endpoint of [
    'http://vies.example',
    'ftp://x',
    'vies',
    'https://a:b@vies.example',
    'http://127.evil.example',
  ])
    t.throws(() => createVies({ endpoint }), /endpoint of VIES must/, endpoint);
  for (const endpoint of ['https://vies.example/x/', 'http://[::1]:1', 'http://localhost:1'])
    await createVies({ endpoint }).close();
});
