/** The order of Terraform states, their retention, and the encryption of their content. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { open, seal, upload } from '../../backend/api/terraform-state/content.ts';
import { newStateKeyFile, parseStateKeys } from '../../backend/api/terraform-state/keys.ts';
import { StateWorkerPool } from '../../backend/api/terraform-state/worker-pool.ts';
import { keptVersions } from '../../backend/contract/resources/terraform-states.ts';
import { maxHistoryBytes, staleReason, versionsToRemove } from '../../backend/model/terraform/state.ts';
import { withStore } from '../support/stores.ts';

t.test('which state follows which', async (t) => {
  const latest = { serial: 7, lineage: 'a' };
  t.equal(staleReason(latest, { serial: 8, lineage: 'a' }), undefined);
  t.equal(staleReason(latest, { serial: 80, lineage: 'a' }), undefined, 'serials may leave some out');
  t.match(staleReason(latest, { serial: 7, lineage: 'a' }), /serial is 7, .* 7 already/);
  t.match(staleReason(latest, { serial: 6, lineage: 'a' }), /older version/);
  t.match(staleReason(latest, { serial: 8, lineage: 'b' }), /lineage is b, .* is a/);
});

t.test('the kept versions of a state', async () => {
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
      return going.every(({ i }, n) => i === n) && needed && (fits || kept.length === 0 || going.length === 40);
    }),
  );
});

t.test('content is opened by who closed it, as it was, or not at all', async (t) => {
  const store = await withStore(t);
  const keys = parseStateKeys(newStateKeyFile());
  const workshop = new StateWorkerPool();
  t.teardown(() => workshop.close());
  for (const given of [Buffer.from('{}'), randomBytes(600_000), randomBytes(1_048_576), Buffer.alloc(20_000_000)]) {
    const { sealed, bytes } = await seal(workshop, 'prj', keys, 'prj/a', Buffer.from(given));
    t.ok(given.equals(bytes), 'the bytes come back');
    const { require, write } = await upload(store, sealed, new Date());
    t.ok((await store.commit({ require, write })).ok);
    const openedAs = async (state: string, size = given.length): Promise<Buffer | undefined> => {
      const stream = await open(store, keys, state, sealed.content, size);
      return stream && Buffer.concat(await stream.toArray());
    };
    t.ok((await openedAs('prj/a'))?.equals(given), `${given.length} bytes`);
    await t.rejects(openedAs('prj/b'), 'not as the content of another state');
    await t.rejects(openedAs('prj/a', given.length - 1), 'nor where it is larger than was recorded');
    const [first] = (await store.list(`terraform-state-chunks/${sealed.content.id}/`)).entries;
    if (!first) throw new Error('there is a chunk');
    const data = Buffer.from(JSON.parse(first.value).data, 'base64');
    // The last byte of the checksum of what was compressed: only the tag of the cipher betrays it.
    const at = sealed.content.chunks === 1 ? data.length - 1 : 0;
    data.writeUInt8(data.readUInt8(at) ^ 1, at);
    await store.commit({ write: [{ put: first.key, value: JSON.stringify({ data: data.toString('base64') }) }] });
    const stream = await open(store, keys, 'prj/a', sealed.content, given.length);
    let seen = 0;
    stream?.on('data', (piece: Buffer) => {
      seen += piece.length;
    });
    await t.rejects(once(stream ?? new Readable(), 'end'), 'not with a bit changed');
    t.ok(seen < given.length, 'whoever reads it does not take it for whole');
    await store.commit({ write: [{ delete: first.key }] });
    t.equal(await open(store, keys, 'prj/a', sealed.content, given.length), undefined, 'nor in part');
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
