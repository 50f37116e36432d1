/** Families and replacements of images. */
import t from 'tap';
import { maxReplacements } from '../../backend/contract/resources/images.ts';
import { type Body, startTestApi } from '../support/api.ts';

t.test('replacements of images never form a circle, and a check of them is bounded', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const image = (name: string, replaced_by?: string) =>
    member.create('images', { name, source: 'file:a.raw', ...(replaced_by && { replaced_by }) });

  await t.test('two changes at once close no circle', async (t) => {
    for (let round = 0; round < 10; round++) {
      const [a, b] = [await image(`a${round}`), await image(`b${round}`)];
      const [one, two] = await Promise.all([
        member.request('PATCH', `/v1/images/${a.id}`, { replaced_by: b.id }),
        member.request('PATCH', `/v1/images/${b.id}`, { replaced_by: a.id }),
      ]);
      t.strictSame([one.status, two.status].sort(), [200, 422], `round ${round}`);
    }
  });

  await t.test('a chain has an end', async (t) => {
    const chain: Body[] = [await image('c0')];
    for (let i = 1; i < maxReplacements; i++) chain.unshift(await image(`c${i}`, chain[0]?.id));
    const longest = await image('longest', chain[0]?.id);
    const refused = await member.request('POST', '/v1/images', {
      name: 'longer',
      source: 'file:a.raw',
      replaced_by: longest.id,
    });
    t.match(refused, { status: 422, body: { errors: [{ pointer: '/replaced_by', detail: /more than 16 images/ }] } });
    // A chain also grows at its end, where a check sees one image. Its beginning is then too far away to be found.
    const further = await image('further');
    await member.update('images', chain.at(-1)?.id ?? '', { replaced_by: further.id });
    const circle = await member.request('PATCH', `/v1/images/${further.id}`, { replaced_by: longest.id });
    t.match(circle, { status: 422, body: { errors: [{ pointer: '/replaced_by' }] } });
  });
});
