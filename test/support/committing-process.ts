/**
 * A process that commits pairs of records to the embedded store as fast as possible. The test kills it during a commit:
 *
 *     node committing-process.ts <path> <first number>
 *
 * Commit number n writes left/<n> and right/<n>. Every fourth commit also deletes the pair before it. After each acknowledged
 * commit, the process prints a line `<n>`. A write to a pipe is complete when `write` returns.
 */
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import type { Write } from '../../backend/store/store.ts';

const [path = '', first = '0'] = process.argv.slice(2);
const store = await openEmbeddedStore({ path });
const lease = await store.lease(5);
await store.commit({ write: [{ put: `alive/${first}`, value: '', lease: lease.id }] });
let next = Number(first);

async function commitForever(): Promise<never> {
  for (;;) {
    const n = next++;
    const write: Write[] = ['left', 'right'].map((side) => ({ put: `${side}/${n}`, value: `${n} `.repeat(50) }));
    if (n % 4 === 3) write.push({ delete: `left/${n - 1}` }, { delete: `right/${n - 1}` });
    // In order of their numbers the pair n-1 is there, or on its way in the same group before this one.
    await store.commit({ write });
    process.stdout.write(`${n}\n`);
  }
}

await Promise.all(Array.from({ length: 32 }, commitForever));
