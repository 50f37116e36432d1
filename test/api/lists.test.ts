/** Lists: selectors, names, ids and pages. */
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { testPublicKey } from '../support/ssh-keys.ts';

t.test('lists: selectors, names, ids, pages', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const keys = await Promise.all(
    Array.from({ length: 25 }, (_, i) =>
      member.create('ssh-keys', {
        name: `k${i}`,
        public_key: testPublicKey,
        labels: { env: i % 2 ? 'prod' : 'test', ...(i < 5 ? { old: '' } : {}) },
      }),
    ),
  );
  const count = async (selector: string) =>
    (await member.list('ssh-keys', `?selector=${encodeURIComponent(selector)}`)).items.length;
  t.equal(await count('env=prod'), 12);
  t.equal(await count('env==prod,old'), 2);
  t.equal(await count('env!=prod'), 13);
  t.equal(await count('env in (prod, test),!old'), 20);
  t.equal(await count('zone notin (a)'), 25);
  const wrong = await member.request('GET', '/v1/ssh-keys?selector=env%20%3E%203');
  t.match(wrong, { status: 400, body: { errors: [{ pointer: '#query/selector' }] } });

  t.match((await member.list('ssh-keys', '?name=k7')).items, [{ name: 'k7' }]);
  const some = keys.slice(3, 6).map(({ id }) => id);
  t.same(
    (await member.list('ssh-keys', `?ids=${some.join(',')}`)).items.map(({ id }) => id),
    [...some].sort(),
  );

  const seen: string[] = [];
  for (let query = '?limit=10'; ; ) {
    const page = await member.list('ssh-keys', query);
    t.ok(page.items.length <= 10);
    seen.push(...page.items.map(({ id }) => id));
    if (page.next_page_token === undefined) break;
    query = `?limit=10&page_token=${page.next_page_token}`;
  }
  t.same(seen, keys.map(({ id }) => id).sort(), 'pages hold everything once, in order');
  for (const query of [
    '?page_token=nonsense',
    '?limit=0',
    '?limit=1001',
    '?limit=x',
    '?limit=1&limit=2',
    '?nothing=1',
    '?ids=vm-1',
  ]) {
    const answer = await member.request('GET', `/v1/ssh-keys${query}`);
    t.match(answer, { status: 400, body: { errors: [{ pointer: /^#query\// }] } }, query);
  }
});
