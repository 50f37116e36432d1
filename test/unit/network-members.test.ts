/** The members of networks, and the addresses of the transit between hosts. */
import fc from 'fast-check';
import t from 'tap';
import { idFrom } from '../../backend/model/ids.ts';
import { formatIpv6, isUsableMac } from '../../backend/model/network/addresses.ts';
import {
  innerMtu,
  minUnderlayMtu,
  transitAddress,
  transitMac,
  transitVni,
} from '../../backend/model/network/fabric.ts';
import { type Member, memberChanges, memberId, membersOf, parseMemberId } from '../../backend/model/network/members.ts';
import { randomVni } from '../../backend/model/network/vnis.ts';

const host = (number: number) => idFrom('host', `host-${String(number).padStart(16, '0')}`);
const vm = idFrom('vm', `vm-${'0'.repeat(16)}`);
const project = idFrom('project', `prj-${'0'.repeat(16)}`);
const group = idFrom('security_group', `sg-${'0'.repeat(16)}`);
const declared = { id: vm, project, labels: { tier: 'web' } };
const network = (number: number) => idFrom('network', `net-${String(number).padStart(16, '0')}`);
const addressOf = (number: number) => `2001:db8::4000:5eff:fe10:${number}`;
const at = (number: number) => ({
  network: network(number),
  mac: `42:00:5e:10:00:0${number}`,
  address: addressOf(number),
});

t.test('a placed VM has a member in each of its networks', async (t) => {
  const groups = (_vm: unknown, each: { network: string }) => (each.network === network(2) ? [group] : []);
  const members = membersOf({ ...declared, interfaces: [at(1), at(2)] }, host(1), 7, groups);
  const value = { vm, host: host(1), fence: 7, project, labels: { tier: 'web' } };
  t.strictSame(members, [
    { id: `${network(1)}/42:00:5e:10:00:01`, value: { ...value, address: addressOf(1) } },
    { id: `${network(2)}/42:00:5e:10:00:02`, value: { ...value, address: addressOf(2), security_groups: [group] } },
  ]);
  const chosen = membersOf({ ...declared, interfaces: [{ ...at(1), address: '2001:db8::80' }] }, host(1), 7, groups);
  t.match(chosen, [{ id: members[0]?.id, value: { address: '2001:db8::80', more_addresses: [addressOf(1)] } }]);
  t.match(
    memberChanges(chosen, members.slice(0, 1)),
    { put: chosen, remove: [] },
    'other hosts learn of new addresses',
  );
  t.strictSame(parseMemberId(members[0]?.id ?? ''), { network: network(1), mac: '42:00:5e:10:00:01' });
  t.equal(memberId(network(1), '42:00:5e:10:00:01'), members[0]?.id);
});

t.test('the changes lead from any members to the wanted ones, and then there are none', async () => {
  const member = fc
    .record({ network: fc.integer({ min: 1, max: 4 }), host: fc.integer({ min: 1, max: 2 }), fence: fc.nat(2) })
    .map(
      ({ network, host: number, fence }): Member | undefined =>
        membersOf({ ...declared, interfaces: [at(network)] }, host(number), fence, () => [])[0],
    );
  const members = fc
    .uniqueArray(member, { selector: (each) => each?.id, maxLength: 4 })
    .map((list) => list.flatMap((each) => each ?? []));
  fc.assert(
    fc.property(members, members, (wanted, present) => {
      const changes = memberChanges(wanted, present);
      const after = new Map(present.map(({ id, value }) => [id, value]));
      for (const id of changes?.remove ?? []) after.delete(id);
      for (const { id, value } of changes?.put ?? []) after.set(id, value);
      const result = [...after].map(([id, value]) => ({ id, value }));
      return memberChanges(wanted, result) === undefined && result.length === wanted.length;
    }),
  );
});

t.test('hosts have different transit addresses, whatever the text of their underlay address is', async (t) => {
  t.equal(transitMac('2001:DB8:0:0::1'), transitMac('2001:db8::1'));
  const macs = new Set(Array.from({ length: 2000 }, (_, i) => transitMac(formatIpv6((0xfd00n << 112n) | BigInt(i)))));
  t.equal(macs.size, 2000);
  for (const mac of macs) if (!isUsableMac(mac) || !mac.startsWith('0a:')) t.fail(mac);
  t.match(transitAddress('2001:db8::1'), /^fe80::8/);
});

t.test('no network has the VNI of the transit, and tunnels leave the minimum MTU of IPv6', async (t) => {
  t.equal(transitVni, 2 ** 24 - 1);
  for (let i = 0; i < 1000; i++) if (randomVni(() => false) === transitVni) t.fail('taken');
  t.equal(innerMtu(minUnderlayMtu), 1280);
});
