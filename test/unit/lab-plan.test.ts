/** The plan of a lab, and the faults of its links. */
import fc from 'fast-check';
import t from 'tap';
import {
  describeFault,
  directions,
  type LinkFault,
  ruleset,
  withFault,
  withoutNode,
} from '../../backend/lab/faults.ts';
import {
  apiUrl,
  labPlan,
  linkedNodeNamed,
  namespaceOf,
  nodeNamed,
  storeUrl,
  targetNamed,
} from '../../backend/lab/plan.ts';
import { sessionsIn, sourceRules, spineConfig } from '../../backend/lab/spine.ts';
import { formatIpv6, parseIpv6 } from '../../backend/model/network/addresses.ts';

const options = { hosts: 3, etcd: 3, hypervisor: 'simulated' } as const;
const plan = labPlan('/var/lib/lab', options);

t.test('a plan follows from the directory and the options', async (t) => {
  t.strictSame(labPlan('/var/lib/lab', options), plan);
  t.strictSame(
    plan.nodes.map(({ name }) => name),
    [
      'etcd-1',
      'etcd-2',
      'etcd-3',
      'api-1',
      'scheduler-1',
      'scheduler-2',
      'scanner-1',
      'host-1',
      'host-2',
      'host-3',
      'client',
    ],
  );
  t.match(apiUrl(plan), /^http:\/\/\[fd[0-9a-f]{2}:[0-9a-f]{4}:[0-9a-f]{4}:4::2\]:7780$/);
  t.match(storeUrl(plan, '/a b/c'), /^etcds:\/\/\[.*\]:2379,\[.*\]:2379,\[.*\]:2379\?ca=%2Fa%20b%2Fc%2Fca\.pem&cert=/);
  t.match(namespaceOf(plan.id, 'host-1'), /^ulab-[0-9a-f]{6}-host-1$/);
});

t.test('nodes of one lab and of different labs have different addresses, and names that fit a device', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 16 }), fc.constantFrom(1, 3, 5), (hosts, etcd) => {
      const { nodes, control, prefix } = labPlan('/one', { ...options, hosts, etcd });
      const addresses = nodes.flatMap(({ address, gateway }) => [address, gateway]);
      addresses.push(control.address, control.gateway);
      const begin = prefix.replace('::/48', ':');
      const fits = nodes.every(({ name }) => name.length <= 15) && control.device.length <= 15;
      return new Set(addresses).size === addresses.length && addresses.every((each) => each.startsWith(begin)) && fits;
    }),
  );
  t.not(labPlan('/two', options).prefix, plan.prefix);
  fc.assert(
    fc.property(fc.nat(), (number) => {
      const { nodes, router, control } = labPlan(`/${number}`, options);
      const addresses = [...nodes, router, control].flatMap(({ address, gateway }) => [address, gateway]);
      return addresses.every((each) => formatIpv6(parseIpv6(each) ?? 0n) === each);
    }),
  );
});

t.test('a target is a node or one of its daemons', async (t) => {
  t.match(targetNamed(plan, 'host-1'), { node: { name: 'host-1' }, daemon: undefined });
  t.match(targetNamed(plan, 'api-1/file-scanner'), { node: { name: 'api-1' }, daemon: 'file-scanner' });
  t.throws(() => nodeNamed(plan, 'host-4'), /there is no node "host-4" in this lab; the nodes are etcd-1, .*, spine$/);
  t.match(targetNamed(plan, 'spine/bird'), { node: plan.router, daemon: 'bird' });
  t.equal(linkedNodeNamed(plan, 'client').name, 'client');
  t.throws(() => linkedNodeNamed(plan, 'spine'), /links belong to the nodes around spine: etcd-1, .*, client$/);
  t.throws(() => targetNamed(plan, 'host-1/api'), /host-1 has no daemon "api"; it has agent/);
  t.throws(() => targetNamed(plan, 'client/agent'), /client has no daemon "agent"; it has none/);
  t.throws(() => targetNamed(plan, 'host-1/agent/x'), /no daemon "agent\/x"/);
});

t.test('the rules drop the packets of a fault', async (t) => {
  const rules = (fault: Partial<LinkFault>) =>
    ruleset([{ node: 'host-1', percent: 100, direction: 'both', ...fault }])
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => / drop$/.test(line));
  t.strictSame(rules({ direction: 'in' }).slice(0, 1), ['oifname "host-1" drop']);
  t.strictSame(rules({ direction: 'out' }).slice(0, 1), ['iifname "host-1" drop']);
  t.strictSame(rules({ percent: 30, peer: 'api-1' }), [
    'iifname "host-1" oifname "api-1" numgen random mod 100 < 30 drop',
    'oifname "host-1" iifname "api-1" numgen random mod 100 < 30 drop',
  ]);
  const input = ruleset([{ node: 'host-1', percent: 100, direction: 'out' }]).split('chain input_faults')[1] ?? '';
  t.match(input, /nd-neighbor-advert } accept[\s\S]*iifname "host-1" drop/, 'the spine still finds the node');
  const output = (faults: LinkFault[]) => ruleset(faults).split('chain output_faults')[1] ?? '';
  t.match(output([{ node: 'host-1', percent: 100, direction: 'in' }]), /oifname "host-1" drop/, 'its sessions end');
  const between = { node: 'host-1', percent: 100, direction: 'both', peer: 'api-1' } as const;
  t.notMatch(output([between]), / drop/, 'a fault between two nodes leaves its sessions alone');
  t.equal(describeFault({ node: 'host-1', percent: 100, direction: 'in' }), 'host-1: no packets to it');
});

t.test('a later fault replaces an earlier one of the same packets, and a healed node has none', async (t) => {
  const nodes = ['host-1', 'host-2', 'api-1'];
  const anyFault = fc.record(
    {
      node: fc.constantFrom(...nodes),
      percent: fc.integer({ min: 1, max: 100 }),
      direction: fc.constantFrom(...directions),
      peer: fc.constantFrom(...nodes),
    },
    { requiredKeys: ['node', 'percent', 'direction'] },
  ) as fc.Arbitrary<LinkFault>;
  fc.assert(
    fc.property(fc.array(anyFault), anyFault, (earlier, fault) => {
      const faults = withFault(earlier.reduce<LinkFault[]>(withFault, []), fault);
      const same = faults.filter(
        (each) => each.node === fault.node && each.peer === fault.peer && each.direction === fault.direction,
      );
      const healed = withoutNode(faults, fault.node);
      const isHealed = healed.every(({ node, peer }) => node !== fault.node && peer !== fault.node);
      return same.length === 1 && same[0] === fault && isHealed && withoutNode(faults, undefined).length === 0;
    }),
  );
  t.pass('for all of them');
});

t.test('the spine takes the prefixes of hosts, and no sources of others', async (t) => {
  const config = spineConfig(plan);
  const prefix = plan.prefix.replace('::/48', '');
  t.match(config, `filter from_host_3 {\n  if net ~ [ ${plan.prefix}+, ${plan.prefix}- ] then reject;`);
  t.match(config, `if bgp_next_hop != ${prefix}:a::2 then reject;`);
  t.equal(config.match(/^protocol bgp /gm)?.length, 3, 'no session with other nodes');
  const rules = sourceRules(plan);
  t.match(rules, `iifname "host-1" ip6 saddr ${plan.prefix} ip6 saddr != ${prefix}:8::/64 counter drop`);
  t.match(rules, `iifname "control" ip6 saddr ${plan.prefix} ip6 saddr != ${prefix}:ffff::/64 counter drop`);
  t.equal(rules.match(/iifname/g)?.length, plan.nodes.length + 1);
});

t.test('the sessions in the answer of bird', async (t) => {
  const answer = [
    'Name       Proto      Table      State  Since         Info',
    'port_host_1 BGP        ---        start  09:00:48.554  Passive',
    '  BGP state:          Passive',
    'session_host_1_7 BGP        ---        up     09:00:56.927  Established',
    '  BGP state:          Established',
    '  Channel ipv6',
    '    Routes:         3 imported, 1 exported, 3 preferred',
    'session_host_2_1 BGP        ---        start  09:00:57.038  OpenSent',
  ];
  t.strictSame(sessionsIn(answer, plan), [
    { host: 'host-1', state: 'established', prefixes: 3 },
    { host: 'host-2', state: 'down', prefixes: 0 },
    { host: 'host-3', state: 'down', prefixes: 0 },
  ]);
  const many = labPlan('/var/lib/lab', { ...options, hosts: 16 });
  t.match(sessionsIn(['session_host_11_1 BGP --- up 1 Established'], many)[0], { host: 'host-1', state: 'down' });
});
