/** The short form of `npm run fuzz`. */
import t from 'tap';
import { fuzz } from '../support/http-fuzz.ts';

t.test('each answer is documented, whatever a client sends', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const { requests, statuses, faults } = await fuzz(3000, seed);
  t.same(faults.slice(0, 5), [], `seed ${seed}`);
  t.ok(requests >= 3000);
  for (const status of [200, 400, 401, 404, 405, 415]) t.ok(statuses[status], `some are answered with ${status}`);
});
