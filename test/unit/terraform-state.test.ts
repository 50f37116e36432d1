/** Which state follows which, what is kept, and how content is closed and opened. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { open, seal, upload } from '../../backend/api/state-content.ts';
import { newStateKeyFile, parseStateKeys } from '../../backend/api/state-keys.ts';
import { keptVersions } from '../../backend/contract/terraform-states.ts';
import { maxHistoryBytes, staleReason, versionsToRemove } from '../../backend/model/terraform-state.ts';
import { withStore } from '../support/stores.ts';

t.test('which state follows which', async (t) => {
  const latest = { serial: 7, lineage: 'a' };
  t.equal(staleReason(latest, { serial: 8, lineage: 'a' }), undefined);
  t.equal(staleReason(latest, { serial: 80, lineage: 'a' }), undefined, 'serials may leave some out');
  t.match(staleReason(latest, { serial: 7, lineage: 'a' }), /serial is 7, .* 7 already/);
  t.match(staleReason(latest, { serial: 6, lineage: 'a' }), /older version/);
  t.match(staleReason(latest, { serial: 8, lineage: 'b' }), /lineage is b, .* is a/);
});

t.test('what is kept', async () => {
  const size = fc.integer({ min: 0, max: maxHistoryBytes });
  fc.assert(
    fc.property(fc.array(size, { maxLength: keptVersions }), size, (sizes, newcomer) => {
      const versions = sizes.map((stored, i) => ({ stored, i }));
      const going = versionsToRemove(versions, newcomer);
      const kept = versions.slice(going.length);
      const bytes = kept.reduce((sum, { stored }) => sum + stored, newcomer);
      const fits = kept.length + 1 <= keptVersions && bytes <= maxHistoryBytes;
      const last = going.at(-1);
      const needed = last === undefined || kept.length + 2 > keptVersions || bytes + last.stored > maxHistoryBytes;
      // The oldest go, no more than have to, and all that have to unless a transaction has no room for them.
      return going.every(({ i }, n) => i === n) && needed && (fits || kept.length === 0 || going.length === 20);
    }),
  );
});

t.test('content is opened by who closed it, as it was, or not at all', async (t) => {
  const store = await withStore(t);
  const file = newStateKeyFile();
  const keys = parseStateKeys(file);
  for (const bytes of [Buffer.from('{}'), randomBytes(600_000), randomBytes(1_048_576)]) {
    const sealed = await seal(keys, 'prj/a', bytes);
    const { require, write } = await upload(store, sealed, new Date());
    t.ok((await store.commit({ require, write })).ok);
    t.ok((await open(store, keys, 'prj/a', sealed.content))?.equals(bytes), `${bytes.length} bytes`);
    await t.rejects(open(store, keys, 'prj/b', sealed.content), 'not as the content of another state');
    const [first] = (await store.list(`terraform-state-chunks/${sealed.content.id}/`)).entries;
    if (!first) throw new Error('there is a chunk');
    const data = Buffer.from(JSON.parse(first.value).data, 'base64');
    data.writeUInt8(data.readUInt8(0) ^ 1, 0);
    await store.commit({ write: [{ put: first.key, value: JSON.stringify({ data: data.toString('base64') }) }] });
    await t.rejects(open(store, keys, 'prj/a', sealed.content), 'not with a bit changed');
    await store.commit({ write: [{ delete: first.key }] });
    t.equal(await open(store, keys, 'prj/a', sealed.content), undefined, 'nor in part');
  }
});

t.test('key files', async (t) => {
  const [one, two] = [newStateKeyFile(), newStateKeyFile()];
  const both = parseStateKeys(`${two}\n\n${one}`);
  t.same(both.current, parseStateKeys(two).current, 'the first encrypts');
  const old = parseStateKeys(one).current;
  t.same(both.find(old.id), old, 'the others decrypt');
  t.notOk(one.includes(old.id), 'the name of a key says nothing of it');
  t.throws(() => parseStateKeys(''), /no key/);
  t.throws(() => parseStateKeys('# a\nshort'), /line 2 .*openssl rand -base64 32/);
  t.throws(() => parseStateKeys(randomBytes(16).toString('base64')), /line 1/);
});
