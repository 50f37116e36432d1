/** Plans and applies of interfaces: changed in place, with addresses that stay. */
import t from 'tap';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { demoImage } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t);
});

const networkBlock = (name: string) => `
resource "ucloud_network" "${name}" {
  name   = "${name}"
  prefix = ucloud_prefix.this.id
  # Terraform then deletes the network after the change of the VM.
  lifecycle {
    create_before_destroy = true
  }
}`;
const on = (name: string, more = '') => `{ network = ucloud_network.${name}.id${more && `, ${more}`} }`;
const groupBlock = (name: string) => `
resource "ucloud_security_group" "${name}" {
  name = "${name}"
  lifecycle {
    create_before_destroy = true
  }
}`;
const configuration = (
  networks: readonly string[],
  interfaces: readonly string[],
  groups: readonly string[] = [],
) => `${demoImage}
resource "ucloud_prefix" "this" {
  name = "site"
}
${networks.map(networkBlock).join('')}
${groups.map(groupBlock).join('')}
resource "ucloud_vm" "web" {
  name       = "web"
  image      = data.ucloud_image.demo.id
  interfaces = [${interfaces.join(', ')}]
}`;

interface Interface {
  readonly network: string;
  readonly mac: string;
  readonly address: string;
  readonly secondary_addresses: readonly string[];
  readonly security_groups: readonly string[];
}

t.test('interfaces are changed in place', { skip }, async (t) => {
  const directory = cloud.configuration(t, '');
  const write = (networks: readonly string[], ...interfaces: string[]) =>
    directory.write({ 'main.tf': configuration(networks, interfaces) });
  const vm = async () => (await directory.resource('ucloud_vm.web')).values as { id: string; interfaces: Interface[] };
  write(['a'], on('a'));
  await directory.apply();
  const { id, interfaces: before } = await vm();
  const [first] = before;

  await t.test('an interface in a network of the same apply is added', async (t) => {
    write(['a', 'b'], on('a'), on('b'));
    t.strictSame((await directory.pending()).toSorted(), ['ucloud_network.b: create', 'ucloud_vm.web: update']);
    const { after } = await directory.planned('ucloud_vm.web');
    t.match(after, { interfaces: [first], address: first?.address }, 'the other one is planned as it is');
    await directory.apply();
    t.strictSame(await directory.pending(), []);
    const now = await vm();
    t.equal(now.id, id);
    t.strictSame(now.interfaces[0], first);
    t.not(now.interfaces[1]?.network, first?.network);
  });
  await t.test('the order of the list changes no address', async (t) => {
    const [a, b] = (await vm()).interfaces;
    write(['a', 'b'], on('b'), on('a'));
    const { actions, after } = await directory.planned('ucloud_vm.web');
    t.strictSame(actions, ['update']);
    t.match(after, { interfaces: [b, a], address: b?.address });
    await directory.apply();
    t.strictSame((await vm()).interfaces, [b, a]);
    t.strictSame(await directory.pending(), []);
  });
  await t.test('a network twice', async (t) => {
    const [b, a] = (await vm()).interfaces;
    write(['a', 'b'], on('b'), on('a'), on('a'));
    await directory.apply();
    const three = (await vm()).interfaces;
    t.strictSame(three.slice(0, 2), [b, a]);
    t.strictSame(await directory.pending(), []);
    const last = three[2];
    write(['a', 'b'], on('a', `mac = "${last?.mac}"`), on('b'));
    await directory.apply();
    t.strictSame((await vm()).interfaces, [last, b], 'the MAC address says which one stays');
    t.strictSame(await directory.pending(), []);
    write(['a', 'b'], on('a'), on('b'));
    t.strictSame(await directory.pending(), [], 'it may be omitted again');
  });
  await t.test('addresses are chosen in place', async (t) => {
    const [a, b] = (await vm()).interfaces;
    const inA = (host: string) => `cidrhost(ucloud_network.a.cidr, ${host})`;
    const chosen = `address = ${inA('128')}, secondary_addresses = [upper(${inA('129')}), ${inA('130')}]`;
    write(['a', 'b'], on('a', chosen), on('b'));
    const { actions, after } = await directory.planned('ucloud_vm.web');
    t.strictSame(actions, ['update']);
    t.match(after, { address: /::80$/, interfaces: [{ mac: a?.mac, address: /::80$/ }, b] });
    await directory.apply();
    t.strictSame(await directory.pending(), [], 'also with another spelling');
    const [now] = (await vm()).interfaces;
    t.equal(now?.mac, a?.mac);
    t.match(cloud.hypervisor.interfacesOf(id as never), [
      { mac: a?.mac, addresses: [/::80$/, a?.address, /::81$/, /::82$/] },
      { mac: b?.mac },
    ]);
    write(['a', 'b'], on('a', `address = ${inA('128')}`), on('b'));
    await directory.apply();
    t.match((await vm()).interfaces, [{ mac: a?.mac, address: /::80$/, secondary_addresses: [] }, b]);
  });
  await t.test('a change by somebody else is found and undone', async (t) => {
    const [a, b] = (await vm()).interfaces;
    await cloud.member.update('vms', id, { interfaces: [{ network: b?.network, mac: b?.mac }] });
    t.strictSame(await directory.pending(), ['ucloud_vm.web: update']);
    await directory.apply();
    t.match((await vm()).interfaces, [{ network: a?.network, address: /::80$/ }, b]);
    t.strictSame(await directory.pending(), []);
  });
  await t.test('security groups change in place, and the interface stays as it is', async (t) => {
    const [a, b] = (await vm()).interfaces;
    const held = cloud.hypervisor.interfacesOf(id as never);
    const naming = (groups: readonly string[], first: readonly string[], second: readonly string[]) => {
      const list = (names: readonly string[]) =>
        `security_groups = [${names.map((name) => `ucloud_security_group.${name}.id`).join(', ')}]`;
      const interfaces = [
        on('a', `address = cidrhost(ucloud_network.a.cidr, 128), ${list(first)}`),
        on('b', list(second)),
      ];
      directory.write({ 'main.tf': configuration(['a', 'b'], interfaces, groups) });
    };
    naming(['x', 'y'], ['y', 'x'], []);
    const create = ['x', 'y'].map((name) => `ucloud_security_group.${name}: create`);
    t.strictSame((await directory.pending()).toSorted(), [...create, 'ucloud_vm.web: update']);
    const { after } = await directory.planned('ucloud_vm.web');
    t.match(after, { interfaces: [{ mac: a?.mac, address: a?.address }, b], address: a?.address });
    await directory.apply();
    t.strictSame(await directory.pending(), []);
    const [now, other] = (await vm()).interfaces;
    t.equal(now?.security_groups.length, 2);
    t.strictSame([{ ...now, security_groups: [] }, other], [a, b]);
    naming(['x', 'y'], ['x', 'y'], []);
    t.strictSame(await directory.pending(), [], 'their order means nothing');
    await cloud.member.update('vms', id, {
      interfaces: [a, b].map((each) => ({ network: each?.network, mac: each?.mac })),
    });
    t.strictSame(await directory.pending(), ['ucloud_vm.web: update'], 'a change by somebody else is found');
    naming(['x'], [], ['x']);
    t.strictSame((await directory.pending()).toSorted(), ['ucloud_security_group.y: delete', 'ucloud_vm.web: update']);
    await directory.apply();
    t.match((await vm()).interfaces, [{ security_groups: [] }, { mac: b?.mac, security_groups: [/^sg-/] }]);
    write(['a', 'b'], on('a', 'address = cidrhost(ucloud_network.a.cidr, 128)'), on('b'));
    await directory.apply();
    t.strictSame((await vm()).interfaces, [a, b]);
    t.strictSame(await directory.pending(), []);
    t.strictSame(cloud.hypervisor.interfacesOf(id as never), held);
    t.equal((await vm()).id, id);
  });
  await t.test('an interface and its network go in one apply', async (t) => {
    const [a] = (await vm()).interfaces;
    write(['a'], on('a'));
    t.strictSame((await directory.pending()).toSorted(), ['ucloud_network.b: delete', 'ucloud_vm.web: update']);
    await directory.apply();
    t.strictSame((await vm()).interfaces, [a]);
    t.equal((await vm()).id, id);
    t.strictSame(await directory.pending(), []);
  });
  await t.test('mistakes name the field', async (t) => {
    write(['a'], on('a', 'address = "192.0.2.1"'));
    await t.rejects(directory.pending(), /an IPv6 address/, 'in the plan');
    write(['a'], on('a', 'secondary_addresses = ["2001:db8:ffff::1"]'));
    await t.rejects(directory.apply(), /must be in the prefix of the network/);
    t.equal((await vm()).id, id);
  });
  write(['a'], on('a'));
  await directory.destroy();
});
