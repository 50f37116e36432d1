/** The status of a VM says that its guest uses other addresses, by the count of its dropped frames. */
import t from 'tap';
import { type AddressWatch, watchAddresses } from '../../backend/model/vm/address-watch.ts';

t.test('a guest uses other addresses from its third drop on, until ten minutes without a drop', async (t) => {
  const story: readonly (readonly [seconds: number, drops: number, others: boolean, why: string])[] = [
    [0, 0, false, 'no drop'],
    [10, 2, false, 'two frames may be a coincidence'],
    [20, 3, true, 'the third is not'],
    [610, 3, true, 'the last drop is recent'],
    [620, 3, false, 'ten minutes without a drop'],
    [630, 4, true, 'the guest goes on'],
    [640, 0, false, 'a new tap, with a counter from 0'],
    [650, 3, true, 'and the same guest'],
  ];
  let watch: AddressWatch | undefined;
  for (const [seconds, drops, others, why] of story) {
    watch = watchAddresses(watch, drops, seconds * 1000);
    t.equal(watch.others, others, why);
  }
});

t.test('an agent that starts beside a running guest believes the counter', async (t) => {
  t.ok(watchAddresses(undefined, 50, 1000).others);
});
