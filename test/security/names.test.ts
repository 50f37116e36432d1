/** The public formula of the default MAC address reveals nothing about others, and takes nothing from them. */

import t from 'tap';
import { defaultMac, macKey } from '../../backend/model/network/addresses.ts';
import { tapName } from '../../backend/model/network/interface-names.ts';
import { type Body, contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';

async function twoTenants(t: Parameters<typeof startTestApi>[0]) {
  const test = await startTestApi(t);
  const { operator } = test;
  const tenant = async (name: string) => {
    const { id } = await operator.create('projects', { name });
    const prerequisites = await createVmPrerequisites(test, id);
    const member = await test.member(id);
    const ask = (vm: string, mac?: string) =>
      member.request('POST', '/v1/vms', {
        name: vm,
        image: prerequisites.image.id,
        disk_size: '1GiB',
        interfaces: [{ network: prerequisites.network.id, ...(mac === undefined ? {} : { mac }) }],
      });
    return { id, ask, member };
  };
  return { test, victim: await tenant('victim'), attacker: await tenant('attacker') };
}
const withoutIds = ({ status, body }: { status: number; body: Body }) => ({
  status,
  code: body.code,
  errors: body.errors,
});

t.test('the address that another VM has, or would have, can be neither probed nor taken', async (t) => {
  const { test, victim, attacker } = await twoTenants(t);
  t.match(await victim.ask('there'), { status: 201 });
  const before = await contentOf(test.store);
  const there = defaultMac(victim.id, 'there', 0, 0);
  const absent = defaultMac(victim.id, 'absent', 0, 0);
  const answers = [there, absent, '42:00:5e:10:00:01', defaultMac(attacker.id, 'other', 0, 0)].map((mac) =>
    attacker.ask('probe', mac).then(withoutIds),
  );
  const [first, ...others] = await Promise.all(answers);
  t.match(first, { status: 422, code: 'rule_violated', errors: [{ pointer: '/interfaces/0/mac' }] });
  for (const answer of others) t.same(answer, first, 'one answer, whatever there is');
  t.same(await contentOf(test.store), before);

  // The same tail with another first byte is another address.
  for (const [index, byte] of ['02', '06', '0a', 'fe', '46'].entries()) {
    for (const mac of [there, absent]) {
      const name = `squatter-${index}-${mac === there ? 'there' : 'absent'}`;
      t.match(await attacker.ask(name, byte + mac.slice(2)), { status: 201 }, 'it tells nothing');
    }
  }
  const late = await victim.ask('absent');
  t.match(late, { status: 201, body: { interfaces: [{ mac: absent }] } }, 'the victim has the address it computed');
  t.match(await victim.ask('planned', defaultMac(victim.id, 'planned', 0, 0)), { status: 201 }, 'which may be given');
  t.match(await victim.ask('x', defaultMac(victim.id, 'x', 1, 0)), { status: 422 }, 'that of another interface not');
});

t.test('of an address that was chosen by hand only that it is taken is told', async (t) => {
  const { victim, attacker } = await twoTenants(t);
  const { status, body } = await victim.ask('web', '02:00:00:00:00:01');
  t.equal(status, 201);
  const refused = await attacker.ask('web', '02:00:00:00:00:01');
  t.match(refused, { status: 409, body: { code: 'address_taken' } });
  t.same(refused.body.errors, [{ pointer: '/interfaces/0/mac', detail: 'is taken' }]);
  for (const id of [victim.id, body.id]) t.notMatch(JSON.stringify(refused.body), new RegExp(id));
});

t.test('names of taps are different wherever keys are', async (t) => {
  for (const mac of ['02:11:22:33:44:55', '06:11:22:33:44:55', '42:11:22:33:44:55', 'fe:11:22:33:44:55']) {
    t.ok(tapName(mac).length <= 15);
    t.equal(tapName(mac).slice(2), macKey(mac));
  }
  t.not(tapName('02:11:22:33:44:55'), tapName('42:11:22:33:44:55'));
});
