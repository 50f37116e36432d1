/** Plans and applies of VMs: addresses before the creation, waits, and names that move between VMs. */
import t from 'tap';
import { idFrom } from '../../backend/model/ids.ts';
import { defaultMac, formatIpv6, parseIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import { asked, GiB, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { type GatewayRequest, type RequestOutcome, startGateway } from '../support/gateway.ts';
import { demoImage, imageAndNetwork, vmBlock as vm } from '../support/hcl.ts';
import { otherPublicKey, testPublicKey } from '../support/ssh-keys.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

const prerequisites = imageAndNetwork({ network: 'web', cidr: '2001:0DB8:0:ab00::/56' });

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t, { capacity: { cpus: 8, memory: 16 * GiB, disk: 1000 * GiB } });
});

t.test('plans are exact', { skip }, async (t) => {
  const directory = cloud.configuration(t, prerequisites);
  const prefix = (await directory.planned('ucloud_prefix.this')).after;
  t.match(prefix, { cidr: '2001:0DB8:0:ab00::/56', length: 56, project: cloud.project }, 'what follows from the cidr');
  await directory.apply();

  directory.write({ 'main.tf': prerequisites + vm('web') });
  const { after } = await directory.planned('ucloud_vm.web');
  const mac = defaultMac(cloud.project, 'web', 0, 0);
  const subnet = parseIpv6('2001:db8:0:ab00::') ?? 0n;
  const address = formatIpv6(slaacAddress(subnet, mac));
  t.match(after, { address, interfaces: [{ mac, address }] }, 'addresses are known before the VM exists');
  await directory.apply();
  t.match((await directory.resource('ucloud_vm.web')).values, { address, interfaces: [{ mac, address }] });
  t.strictSame(await directory.pending(), []);

  await t.test('a VM that is made anew keeps its addresses; adding a key makes none anew', async (t) => {
    const key = `
resource "ucloud_ssh_key" "k" {
  name       = "k"
  public_key = "${testPublicKey}"
}`;
    directory.write({ 'main.tf': prerequisites + key + vm('web', 'ssh_keys = [ucloud_ssh_key.k.id]') });
    t.strictSame((await directory.pending()).toSorted(), ['ucloud_ssh_key.k: create', 'ucloud_vm.web: update']);
    await directory.apply();

    const id = (await directory.resource('ucloud_vm.web')).values.id;
    directory.write({
      'main.tf': prerequisites + key + vm('web', 'ssh_keys = [ucloud_ssh_key.k.id]\n user_data = "#!/bin/sh"'),
    });
    const change = await directory.planned('ucloud_vm.web');
    t.strictSame(change.actions, ['delete', 'create']);
    t.strictSame(change.replace_paths, [['user_data']]);
    t.match(change.after, { address, interfaces: [{ mac, address }] });
    await directory.apply();
    const { values } = await directory.resource('ucloud_vm.web');
    t.not(values.id, id);
    t.equal(values.address, address);
    t.strictSame(await directory.pending(), []);
  });

  await t.test('rotating a public key in use takes one apply, keeps the name and replaces no VM', async (t) => {
    const own = cloud.configuration(t, '');
    const keyed = (publicKey: string) =>
      own.write({
        'main.tf': `${imageAndNetwork({ name: 'rotating', network: 'rotating' })}
resource "ucloud_ssh_key" "ops" {
  name       = "ops"
  public_key = "${publicKey}"
}
output "fingerprint" {
  value = ucloud_ssh_key.ops.fingerprint
}
${vm('rotating', 'ssh_keys = [ucloud_ssh_key.ops.id]')}`,
      });
    keyed(`${testPublicKey} old`);
    await own.apply();
    const [before, running] = [await own.resource('ucloud_ssh_key.ops'), await own.resource('ucloud_vm.rotating')];
    keyed(`${otherPublicKey} new`);
    const planned = ['ucloud_ssh_key.ops: update', 'output.fingerprint: update'];
    t.strictSame(await own.pending(), planned, 'of the VM nothing changes');
    await own.apply();
    const after = await own.resource('ucloud_ssh_key.ops');
    t.match(after.values, { id: before.values.id, name: 'ops', public_key: /new$/ });
    t.not(after.values.fingerprint, before.values.fingerprint);
    t.equal((await own.resource('ucloud_vm.rotating')).values.id, running.values.id);
    t.strictSame(await own.pending(), []);
    await own.destroy();
  });

  await t.test('a prefix that is replaced takes its network and VM along, in one apply', async (t) => {
    const own = cloud.configuration(t, '');
    const lifecycle = '\n  lifecycle {\n    create_before_destroy = true\n  }';
    const write = (length: number, version = '', more = '') =>
      own.write({
        'main.tf': `${demoImage}
resource "ucloud_prefix" "this" {
  name   = "chain${version}"
  length = ${length}${more}
}
resource "ucloud_network" "this" {
  name   = "chain${version}"
  prefix = ucloud_prefix.this.id${more}
}
${vm('chain', more, `"chain${version}"`)}`,
      });
    write(60);
    await own.apply();
    write(61);
    const all = ['ucloud_network.this', 'ucloud_prefix.this', 'ucloud_vm.chain'];
    t.strictSame(
      (await own.pending()).toSorted(),
      all.map((address) => `${address}: delete+create`),
    );
    await own.apply();
    t.strictSame(await own.pending(), []);
    write(62, '-2', lifecycle);
    await own.apply();
    t.strictSame(await own.pending(), [], 'or the new ones first, under another name');
    t.equal((await own.resource('ucloud_prefix.this')).values.length, 62);
    await own.destroy();
  });

  await t.test(
    'keys in another order are the same keys, and a network that changes leaves its VMs alone',
    async (t) => {
      const own = cloud.configuration(t, '');
      const keys = ['a', 'b', 'c'].map(
        (name) => `
resource "ucloud_ssh_key" "${name}" {
  name       = "${name}"
  public_key = "${testPublicKey} ${name}"
}`,
      );
      const write = (network: string, ...names: string[]) =>
        own.write({
          'main.tf':
            imageAndNetwork({ name: 'other', network }) +
            keys.join('') +
            vm('keyed', `ssh_keys = [${names.map((name) => `ucloud_ssh_key.${name}.id`)}]`),
        });
      write('before', 'a', 'b');
      await own.apply();
      write('before', 'b', 'a');
      t.strictSame(await own.pending(), []);
      write('before', 'c', 'b', 'a');
      t.strictSame(await own.pending(), ['ucloud_vm.keyed: update'], 'another one is given in place');
      write('after', 'a', 'b');
      t.strictSame(await own.pending(), ['ucloud_network.this: update']);
      await own.destroy();
    },
  );

  await t.test('an address of the own choice', async (t) => {
    const own = cloud.configuration(
      t,
      `${demoImage}
data "ucloud_network" "web" {
  name = "web"
}
resource "ucloud_vm" "own" {
  name       = "own"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = data.ucloud_network.web.id, mac = "52-54-00-12-34-AB" }]
}`,
    );
    const expected = formatIpv6(slaacAddress(subnet, '52:54:00:12:34:ab'));
    t.match((await own.planned('ucloud_vm.own')).after, {
      address: expected,
      interfaces: [{ mac: '52-54-00-12-34-AB' }],
    });
    await own.apply();
    t.strictSame(await own.pending(), [], 'and the own spelling stays');
    await own.destroy();
  });
  await directory.destroy();
});

t.test('apply waits for what is asked', { skip }, async (t) => {
  const directory = cloud.configuration(t, prerequisites + vm('web', 'wait_for = "ready"'));
  await directory.apply();
  t.match((await directory.resource('ucloud_vm.web')).values, { status: { phase: 'running', ready: true } });

  directory.write({ 'main.tf': prerequisites + vm('web', 'wait_for = "ready"\n power_state = "stopped"') });
  await directory.apply();
  t.match((await directory.resource('ucloud_vm.web')).values, { status: { phase: 'stopped' } });
  t.strictSame(await directory.pending(), []);

  await t.test('a change that waits for a restart is told', async (t) => {
    directory.write({ 'main.tf': prerequisites + vm('web') });
    await directory.apply();
    directory.write({ 'main.tf': prerequisites + vm('web', 'cpus = 2') });
    const diagnostics = await directory.diagnostics('apply');
    t.match(diagnostics, [
      {
        severity: 'warning',
        summary: 'VM "web" must restart for the change',
        detail: 'The change of `cpus` takes effect at the next start of the VM. Reboot the VM at a suitable time.',
        code: 'cpus = 2',
      },
    ]);
    t.match((await directory.resource('ucloud_vm.web')).values, { status: { restart_required: true } });
    t.strictSame(await directory.pending(), []);
  });
  await directory.destroy();
});

t.test('nothing waits for a guest that does not report, unless it is asked to', { skip }, async (t) => {
  const silent = await startTestCloud(t, { readyMs: 24 * 3_600_000 });
  const directory = silent.configuration(
    t,
    `${prerequisites + vm('web')}\noutput "address" {\n value = ucloud_vm.web.address\n}`,
  );
  await directory.apply();
  const { values } = await directory.resource('ucloud_vm.web');
  t.match(values.status, { phase: 'running', ready: false });
  t.match(await directory.outputs(), { address: values.address }, 'its address does not come from the guest');
  directory.write({
    'main.tf': prerequisites + vm('web', 'description = "asked"\n wait_for = "ready"\n timeouts = { update = "1s" }'),
  });
  t.match(await directory.diagnostics('apply'), [
    {
      severity: 'error',
      summary: 'VM "web" is not ready within 1 s',
      detail:
        'It is running, but its guest has not reported that ucloud-init or cloud-init has finished.\n\nThe API made the change, which continues without Terraform. To wait longer, set `timeouts`.',
      address: 'ucloud_vm.web',
    },
  ]);
  t.notOk((await directory.resource('ucloud_vm.web')).tainted, 'nothing is wrong with it');
  await directory.destroy();
});

t.test('a VM that finds no host', { skip }, async (t) => {
  const directory = cloud.configuration(
    t,
    prerequisites + vm('giant', 'memory = "64GiB"\n timeouts = { create = "2s" }'),
  );
  const diagnostics = await directory.diagnostics('apply');
  t.match(diagnostics, [
    { severity: 'warning', summary: 'No host can run this VM', code: 'memory = "64GiB"' },
    { severity: 'error', summary: 'VM "giant" is not running within 2 s', address: 'ucloud_vm.giant' },
  ]);
  t.match(
    diagnostics[1]?.detail,
    /^It has no host yet: .*64 ?GiB.*16 ?GiB/s,
    'it says what it needs and what there is',
  );
  const { values, tainted } = await directory.resource('ucloud_vm.giant');
  t.match(values.id, /^vm-/, 'the VM exists, and the state knows it');
  t.equal(tainted, true);
  t.match(
    diagnostics[1]?.detail,
    /the next apply replaces it, unless you run `terraform untaint` first\. To wait longer/,
  );
  await directory.run('untaint', 'ucloud_vm.giant');
  t.strictSame(await directory.pending(), [], 'it is kept as it is');
  await directory.run('taint', 'ucloud_vm.giant');

  directory.write({ 'main.tf': prerequisites + vm('giant', 'memory = "1GiB"') });
  await directory.apply();
  t.not((await directory.resource('ucloud_vm.giant')).values.id, values.id, 'the next apply replaces it');
  t.equal((await cloud.member.list('vms')).items.length, 1, 'and nothing is left of the first');
  await directory.destroy();
});

t.test('a destroy of an attachment waits while the guest uses the volume, and says where', { skip }, async (t) => {
  const cloud = await startTestCloud(t);
  const volume = 'resource "ucloud_volume" "data" {\n name = "data"\n size = "1GiB"\n}\n';
  const attachment = `resource "ucloud_volume_attachment" "data" {
  vm       = ucloud_vm.web.id
  volume   = ucloud_volume.data.id
  timeouts = { delete = "3s" }
}
`;
  const directory = cloud.configuration(t, prerequisites + vm('web') + volume + attachment);
  await directory.apply();
  const [vmId, volumeId] = [
    idFrom('vm', String((await directory.resource('ucloud_vm.web')).values.id)),
    idFrom('volume', String((await directory.resource('ucloud_volume.data')).values.id)),
  ];
  cloud.hypervisor.setGuestAgent(vmId, true);
  cloud.hypervisor.useVolume(volumeId, 'The guest has mounted it at /srv.');
  await until(
    'the guest agent is known',
    async () => (await cloud.member.get('vms', vmId)).status.guest_agent === true,
  );
  directory.write({ 'main.tf': prerequisites + vm('web') + volume });
  t.match(await directory.diagnostics('apply'), [
    { severity: 'error', summary: /is not gone within 3 s/, detail: /mounted it at \/srv/ },
  ]);
  t.match((await directory.resource('ucloud_volume_attachment.data')).values.volume, volumeId, 'the state keeps it');
  cloud.hypervisor.useVolume(volumeId, undefined);
  await directory.apply();
  t.strictSame((await cloud.member.list('volume-attachments')).items, []);
  await directory.destroy();
});

t.test('VMs of an anti-affinity group', { skip }, async (t) => {
  const cloud = await startTestCloud(t, { capacity: { cpus: 8, memory: 16 * GiB, disk: 1000 * GiB }, moreHosts: 1 });
  const group = (count: number, more = '') => `${prerequisites}
resource "ucloud_vm" "web" {
  count         = ${count}
  name          = "web-\${count.index}"
  image         = data.ucloud_image.demo.id
  interfaces    = [{ network = ucloud_network.this.id }]
  anti_affinity = { group = "web"${more} }
  timeouts      = { create = "3s" }
}`;
  const directory = cloud.configuration(t, group(2));
  const { after } = await directory.planned('ucloud_vm.web[0]');
  t.match(after, { anti_affinity: { group: 'web', mode: 'required' } }, 'strict where nothing is said');
  await directory.apply();
  const hosts = (await cloud.member.list('vms')).items.map(({ status }) => status.host);
  t.equal(new Set(hosts).size, 2, 'they are on different hosts');
  t.strictSame(await directory.pending(), []);

  directory.write({ 'main.tf': group(3) });
  const diagnostics = await directory.diagnostics('apply');
  const told = diagnostics.find(({ severity }) => severity === 'error');
  t.match(diagnostics[0], { severity: 'warning', summary: 'No host can run this VM', code: /^anti_affinity/ });
  t.match(told, {
    summary: 'VM "web-2" is not running within 3 s',
    detail: /^It has no host yet: all 2 hosts with room have a VM of the group web already\b/,
    address: 'ucloud_vm.web[2]',
  });

  directory.write({ 'main.tf': group(3, ', mode = "preferred"') });
  const change = await directory.planned('ucloud_vm.web[0]');
  t.strictSame(change.actions, ['delete', 'create'], 'a VM keeps its host, so another wish takes another VM');
  t.strictSame(change.replace_paths, [['anti_affinity']]);
  await directory.apply();
  t.equal((await cloud.member.list('vms')).items.length, 3, 'who only prefers it shares a host at last');
  t.strictSame(await directory.pending(), []);

  directory.write({ 'main.tf': group(3, ', mode = "perhaps"') });
  t.match(await directory.diagnostics('validate'), [
    { detail: /Must be one of "required", "preferred", not "perhaps"/, code: /^anti_affinity/ },
  ]);
  directory.write({ 'main.tf': group(3).replace('"web" }', '"Web" }') });
  t.match(await directory.diagnostics('validate'), [{ detail: /1 to 63 lower-case letters/ }]);
  directory.write({ 'main.tf': prerequisites });
  await directory.destroy();
});

t.test('objects without references to one another are destroyed at once', { skip }, async (t) => {
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'old' });
  const network = await member.create('networks', { name: 'old', prefix: prefix.id });
  const [image] = (await member.list('images', '?name=demo')).items;
  const machine = await member.create('vms', {
    name: 'old',
    image: image?.id,
    interfaces: [{ network: network.id }],
    user_data: '#!/bin/sh\necho hello\n',
  });
  const ids = { prefix: prefix.id, network: network.id, vm: machine.id };
  const imports = Object.entries(ids).map(([noun, id]) => `import {\n to = ucloud_${noun}.old\n id = "${id}"\n}`);
  const directory = cloud.configuration(t, imports.join('\n'));
  // Generated configuration contains ids instead of references, so Terraform deletes all objects at the same time.
  await directory.run('plan', '-no-color', '-generate-config-out=generated.tf');
  await directory.apply();
  await directory.destroy();
  for (const plural of ['vms', 'networks', 'prefixes'] as const) {
    t.strictSame((await member.list(plural, '?name=old')).items, [], `no ${plural} are left`);
  }
});

t.test('an object gets the name that another gives up in the same apply', { skip }, async (t) => {
  await t.test('a VM that is renamed keeps its address, and its successor has another', async (t) => {
    const directory = cloud.configuration(t, prerequisites + vm('web'));
    await directory.apply();
    const mac = (probe: number) => defaultMac(cloud.project, 'web', 0, probe);
    const before = (await directory.resource('ucloud_vm.web')).values;
    t.match(before.interfaces, [{ mac: mac(0) }]);
    directory.write({
      'main.tf': prerequisites + vm('web', '', '"old-web"') + vm('next', 'depends_on = [ucloud_vm.web]', '"web"'),
    });
    const change = await directory.planned('ucloud_vm.next');
    t.match(change.after_unknown, { address: true, interfaces: [{ mac: true, address: true }] });
    await directory.run('apply', '-no-color', 'test.tfplan');
    t.match((await directory.resource('ucloud_vm.web')).values, { id: before.id, address: before.address });
    t.match((await directory.resource('ucloud_vm.next')).values.interfaces, [{ mac: mac(1) }], 'the API has chosen');
    t.strictSame(await directory.pending(), []);
    await directory.destroy();
  });

  await t.test('in whichever order Terraform comes to them', async (t) => {
    const prefix = (block: string, name: string) => `resource "ucloud_prefix" "${block}" {\n name = "${name}"\n}\n`;
    let refused: () => void = () => {};
    const afterRefusal = new Promise<void>((resolve) => {
      refused = resolve;
    });
    const created: number[] = [];
    // The old prefix is renamed only after the API has refused the name for the new one.
    const decide = async ({ method }: GatewayRequest): Promise<RequestOutcome> => {
      if (method === 'PATCH') await afterRefusal;
      return 'pass';
    };
    const answered = ({ method, path }: GatewayRequest, status: number) => {
      if (method !== 'POST' || path !== '/v1/prefixes') return;
      created.push(status);
      if (status === 409) refused();
    };
    asked(t, { UCLOUD_ENDPOINT: (await startGateway(cloud.api.url, { decide, answered }, t)).url });
    const directory = cloud.configuration(t, prefix('a', 'site'));
    await directory.apply();
    const { id } = (await directory.resource('ucloud_prefix.a')).values;
    directory.write({ 'main.tf': prefix('a', 'old-site') + prefix('b', 'site') });
    await directory.apply();
    t.match((await directory.resource('ucloud_prefix.a')).values, { id, name: 'old-site' });
    t.match((await directory.resource('ucloud_prefix.b')).values, { name: 'site' });
    t.ok(created.includes(409) && created.at(-1) === 201, `it was refused at first: ${created}`);
    t.strictSame(await directory.pending(), []);
    await directory.destroy();
  });

  await t.test(
    'a VM that moves to another address in the configuration is made anew when the old one is gone',
    async (t) => {
      const directory = cloud.configuration(t, prerequisites + vm('a', '', '"web"'));
      await directory.apply();
      const { address } = (await directory.resource('ucloud_vm.a')).values;
      directory.write({ 'main.tf': prerequisites + vm('b', '', '"web"') });
      t.strictSame((await directory.pending()).toSorted(), ['ucloud_vm.a: delete', 'ucloud_vm.b: create']);
      await directory.apply();
      t.equal((await directory.resource('ucloud_vm.b')).values.address, address, 'at the same IPv6 address');
      t.equal((await cloud.member.list('vms')).items.length, 1);
      await directory.destroy();
    },
  );
});
