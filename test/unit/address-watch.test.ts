/** The status of a VM says that its guest uses other addresses, by the count of its dropped frames. */
import t, { type Test } from 'tap';
import { beginWatch, watchAddresses } from '../../backend/model/vm/address-watch.ts';

type Story = readonly (readonly [seconds: number, counter: number, others: boolean | undefined, why: string])[];

const follow = (t: Test, first: boolean | undefined, counter: number, story: Story): void => {
  let watch = beginWatch(counter, 0, first);
  for (const [seconds, drops, others, why] of story) {
    watch = watchAddresses(watch, drops, seconds * 1000);
    t.equal(watch.others, others, why);
  }
};

t.test('a guest uses other addresses from its third drop on, until ten minutes without a drop', async (t) => {
  follow(t, false, 0, [
    [0, 0, false, 'no drop'],
    [10, 2, false, 'two frames may be a coincidence'],
    [20, 3, true, 'the third is not'],
    [610, 3, true, 'the last drop is recent'],
    [620, 3, false, 'ten minutes without a drop'],
    [630, 4, false, 'a single later frame may be a coincidence again'],
    [640, 6, true, 'three are not'],
    [650, 0, true, 'a new tap has a new counter, and the guest is the same'],
  ]);
});

t.test('rare frames never add up', async (t) => {
  follow(t, false, 0, [
    [0, 1, false, 'one'],
    [700, 2, false, 'two'],
    [1400, 3, false, 'three, each long after the other'],
  ]);
});

t.test('an agent that starts beside a running guest counts only what comes, and first knows nothing', async (t) => {
  follow(t, undefined, 50, [
    [10, 50, undefined, 'the earlier drops may be old'],
    [20, 52, undefined, 'two more'],
    [30, 53, true, 'three more'],
  ]);
  follow(t, undefined, 50, [
    [599, 50, undefined, 'still unknown'],
    [600, 50, false, 'ten minutes without a drop'],
  ]);
});

t.test('a guest that starts again on its old tap begins anew', async (t) => {
  follow(t, false, 50, [[10, 50, false, 'the new guest has sent nothing']]);
});
