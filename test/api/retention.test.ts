/** Records that the API removes with time. */
import t from 'tap';
import { expire } from '../../backend/api/jobs/retention.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { newId, newTimeOrderedId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { withStore } from '../support/stores.ts';

t.test('records with a time limit are removed after it', async (t) => {
  const store = await withStore(t);
  const now = new Date('2026-06-01T00:00:00Z');
  const daysAgo = (days: number) => new Date(now.getTime() - days * 86_400_000);
  const project = newId('project');
  const writes = [0, 6, 8, 89, 91].flatMap((days) => {
    const at = daysAgo(days);
    const event = newTimeOrderedId('event', at);
    const audit = newTimeOrderedId('audit_record', at);
    const operation = newId('operation');
    const time = at.toISOString();
    return [
      put(records.events, event, {
        id: event,
        at: time,
        target: 'x',
        severity: 'info',
        reason: 'x',
        message: `${days}`,
      }),
      put(records.auditRecords, audit, {
        id: audit,
        at: time,
        token: newId('token'),
        operation: 'x',
        target: 'x',
        request_id: 'x',
        source: 'x',
      }),
      put(records.sentMails, `prepaid/acct-1/low7/${time}`, { outcome: 'sent', at: time }),
      put(records.sentMails, `bill/${days}`, { outcome: 'sent', at: time }),
      put(records.idempotency, `tok/${days}`, { request: 'x', status: 201, answer: 'x', at: time }),
      put(records.operations, operation, {
        id: operation,
        project,
        kind: 'vm_reboot',
        target: 'x',
        options: {},
        state: 'succeeded',
        progress: 100,
        finished_at: time,
        created_at: time,
        updated_at: time,
      }),
    ];
  });
  const open = newId('operation');
  const then = daysAgo(50).toISOString();
  writes.push(
    put(records.operations, open, {
      id: open,
      project,
      kind: 'vm_reboot',
      target: 'x',
      options: {},
      state: 'running',
      progress: 0,
      created_at: then,
      updated_at: then,
    }),
  );
  // Tokens: one for ever, one that still works, one whose end its user may still look up, and two to go.
  const expired = (days: number | undefined, owner?: Id<'project'>) => {
    const id = newId('token');
    const record = {
      id,
      name: `ends-${days}`,
      labels: {},
      role: 'member' as const,
      hash: 'x',
      created_at: then,
      updated_at: then,
      ...(days !== undefined && { expires_at: daysAgo(days).toISOString() }),
      ...(owner !== undefined && { project: owner }),
    };
    return [put(records.tokens, id, record), put(records.names, `${owner ?? '_'}/token/${record.name}`, { id })];
  };
  writes.push(...[undefined, -1, 29, 31].flatMap((days) => expired(days, project)), ...expired(400));
  // An older version, or a manual change, has left this record without its time.
  const unreadable = ['events/evt-0000000000000000', 'idempotency/tok/broken'].map((key) => ({
    put: key,
    value: '{}',
  }));
  await store.commit({ write: [...writes, ...unreadable] });
  await t.rejects(expire(store, now, new AbortController().signal), { name: 'InvalidRecordError' });
  const count = async (prefix: string) => (await store.list(prefix)).entries.length;
  t.same(
    {
      events: await count('events/'),
      audit: await count('audit/'),
      keys: await count('idempotency/'),
      operations: await count('operations/'),
      tokens: await count('tokens/'),
      prepaidMails: await count('sent-mails/prepaid/'),
      billMails: await count('sent-mails/bill/'),
    },
    { events: 5, audit: 4, keys: 2, operations: 3, tokens: 3, prepaidMails: 4, billMails: 5 },
    'what is old has gone; what cannot be read stays, and has kept nothing else',
  );
  t.strictSame(
    (await store.list('names/')).entries.map(({ key }) => key.split('/').at(-1)).toSorted(),
    ['ends--1', 'ends-29', 'ends-undefined'],
    'the names of tokens that have gone are free',
  );
  const messages = (await store.list('events/')).entries.map(({ value }) => JSON.parse(value).message ?? '');
  t.equal(messages.filter((message) => /^ends-(31|400) expired at .* and was removed\.$/.test(message)).length, 2);
});
