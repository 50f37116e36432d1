/** The constructs for VMs and networks: their synthesized JSON. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Terraform's references
import { createHash } from 'node:crypto';
import { Aspects, TerraformOutput, type TerraformStack, TerraformVariable, Testing, Token } from 'cdktf';
import t from 'tap';
import {
  bindings,
  Network,
  type NetworkConfig,
  SecurityGroup,
  type SecurityRule,
  UcloudProvider,
  VirtualMachine,
  type VirtualMachineConfig,
  VmGroup,
  type VmGroupConfig,
  Volume,
} from '../../provider/constructs/index.ts';
import { testPublicKey as key } from '../support/ssh-keys.ts';
import { built, objects, only, type Synthesized, synthesize } from '../support/synthesized.ts';

const image = { id: 'img-0123456789abcdef' };

const digits = (publicKey: unknown) => createHash('sha256').update(String(publicKey)).digest('hex').slice(0, 8);

t.test('VirtualMachine brings what it needs, and takes what is there', async (t) => {
  await t.test('alone: a prefix, a network, a key, the image by name', async (t) => {
    const { resource, data } = synthesize((stack) => {
      const vm = new VirtualMachine(stack, 'web', {
        image: 'demo',
        publicKeys: [key],
        memory: '2GiB',
        waitFor: 'ready',
      });
      t.match(vm.address, /TfToken/, 'its address is a reference');
    });
    t.match(only(data?.ucloud_image), { name: 'demo' });
    t.match(only(resource.ucloud_prefix), { name: 'web', length: 64 });
    t.match(only(resource.ucloud_network), { name: 'web', prefix: /^\$\{ucloud_prefix\..*\.id\}$/ });
    t.match(only(resource.ucloud_ssh_key), { name: /^web-[0-9a-f]{8}$/, public_key: key });
    t.match(only(resource.ucloud_vm), {
      name: 'web',
      memory: '2GiB',
      wait_for: 'ready',
      image: /^\$\{data\.ucloud_image\..*\.id\}$/,
      interfaces: [{ network: /^\$\{ucloud_network\..*\.id\}$/ }],
      ssh_keys: [/^\$\{ucloud_ssh_key\..*\.id\}$/],
    });
  });

  await t.test('in the network of another, with its keys', async (t) => {
    const { resource, data } = synthesize((stack) => {
      const web = new VirtualMachine(stack, 'web', { image: 'demo', publicKeys: [key] });
      new VirtualMachine(stack, 'db', {
        image: 'family/debian-12',
        imageChange: 'ignore',
        network: web.network,
        sshKeys: web.ownKeys,
        name: 'db-1',
      });
    });
    t.equal(Object.keys(resource.ucloud_network ?? {}).length, 1);
    t.equal(Object.keys(resource.ucloud_ssh_key ?? {}).length, 1);
    const [web, db] = Object.values(resource.ucloud_vm ?? {});
    t.strictSame([db?.interfaces, db?.ssh_keys], [web?.interfaces, web?.ssh_keys]);
    t.match(db, { name: 'db-1', image_change: 'ignore' });
    const images = Object.values(data?.ucloud_image ?? {});
    t.match(images, [{ name: 'demo' }, { family: 'debian-12' }], 'the newest image of a family');
    t.notOk(images.some((each) => 'name' in each && 'family' in each));
  });

  await t.test('with data disks, and with volumes that exist', async (t) => {
    const { resource } = synthesize((stack) => {
      const shared = new Volume(stack, 'shared', { size: '1GiB', deleteProtection: true });
      const dataDisks = { data: { size: '20GiB', maxIops: 500 }, log: { size: '2GiB' } };
      const db = new VirtualMachine(stack, 'db', { image, network: 'net-0', dataDisks, volumes: [shared] });
      t.match(db.dataDisks.data?.device, /TfToken/);
      new VirtualMachine(stack, 'plain', { image, network: 'net-0' });
    });
    const volumes = Object.values(resource.ucloud_volume ?? {});
    t.match(volumes, [
      { name: 'shared', size: '1GiB', delete_protection: true },
      { name: 'db-data', size: '20GiB', max_iops: 500 },
      { name: 'db-log', size: '2GiB' },
    ]);
    const [db, plain] = Object.values(resource.ucloud_vm ?? {}) as { volumes?: string[] }[];
    t.equal(db?.volumes?.length, 3);
    t.ok(
      db?.volumes?.every((each) => /^\$\{ucloud_volume\..*\.id\}$/.test(each)),
      'all by reference',
    );
    t.notOk(plain && 'volumes' in plain);
  });

  await t.test('with ids, and a network in a given prefix', async (t) => {
    const { resource, data } = synthesize((stack) => {
      const prefix = new bindings.prefix.Prefix(stack, 'site', { name: 'site' });
      new VirtualMachine(stack, 'a', {
        image,
        network: 'net-0123456789abcdef',
        mac: '02:00:5e:10:00:01',
      });
      new VirtualMachine(stack, 'b', { image, network: new Network(stack, 'lan', { prefix }) });
    });
    t.notOk(data);
    t.equal(Object.keys(resource.ucloud_prefix ?? {}).length, 1);
    t.match(Object.values(resource.ucloud_vm ?? {})[0], {
      image: image.id,
      interfaces: [{ network: 'net-0123456789abcdef', mac: '02:00:5e:10:00:01' }],
    });
  });

  await t.test('with all that a ucloud_vm takes, and all that it makes by one provider in one project', async (t) => {
    const { resource, data } = synthesize((stack) => {
      const lab = new UcloudProvider(stack, 'lab', { alias: 'lab' });
      const first = new VirtualMachine(stack, 'first', { image, network: 'net-0' });
      const group = new VmGroup(stack, 'group', { image, count: 1, network: 'net-0', dependsOn: [first] });
      const lan = new Network(stack, 'lan', { provider: lab, dependsOn: [group.member('1')] });
      new VirtualMachine(stack, 'web', {
        image: 'demo',
        publicKeys: [key],
        provider: lab,
        project: 'prj-0123456789abcdef',
        dependsOn: [first, lan],
        lifecycle: { preventDestroy: true, ignoreChanges: ['user_data'] },
        provisioners: [{ type: 'local-exec', command: 'true' }],
        userDataWo: 'secret',
        userDataWoVersion: 1,
        userDataChange: 'restart',
      });
    });
    t.match(resource.ucloud_vm?.web, {
      provider: 'ucloud.lab',
      project: 'prj-0123456789abcdef',
      depends_on: ['ucloud_vm.first', 'ucloud_network.lan'],
      lifecycle: { prevent_destroy: true, ignore_changes: ['user_data'] },
      provisioner: [{ 'local-exec': { command: 'true' } }],
      user_data_wo: 'secret',
      user_data_wo_version: 1,
      user_data_change: 'restart',
    });
    t.match(only(data?.ucloud_image), { name: 'demo', provider: 'ucloud.lab' });
    const of = (type: string) =>
      Object.entries(resource[type] ?? {}).find(([name]) => name.startsWith('web'))?.[1] ?? {};
    for (const type of ['ucloud_network', 'ucloud_prefix', 'ucloud_ssh_key']) {
      t.match(of(type), { provider: 'ucloud.lab', project: 'prj-0123456789abcdef' }, type);
    }
    t.match(resource.ucloud_network?.lan, { depends_on: [/^ucloud_vm\.group_vm_1_\w+$/] });
    t.equal(Object.values(resource.ucloud_prefix ?? {})[0]?.provider, 'ucloud.lab', 'the prefix of the other network');
  });

  await t.test('a key is known by its text, so that those beside it may come and go', async (t) => {
    const keys = (...publicKeys: string[]) =>
      synthesize((stack) => {
        const team = new TerraformVariable(stack, 'team', { type: 'string' });
        const all = publicKeys.map((each) => (each === 'var' ? team.stringValue : each));
        new VirtualMachine(stack, 'web', { image, network: 'net-0', publicKeys: all });
      }).resource.ucloud_ssh_key ?? {};
    const three = keys('ssh-ed25519 AAAA alice', 'var', 'ssh-ed25519 BBBB bob');
    t.strictSame(
      Object.values(three).map((each) => each.public_key),
      ['ssh-ed25519 AAAA alice', '${var.team}', 'ssh-ed25519 BBBB bob'],
    );
    for (const [name, each] of Object.entries(three)) {
      t.match(name, /^web_key-[0-9a-f]{8}_[0-9A-F]{8}$/);
      const named = each.public_key === '${var.team}' ? '${substr(sha256(var.team), 0, 8)}' : digits(each.public_key);
      t.equal(each.name, `web-${named}`);
    }
    t.match(three, keys('ssh-ed25519 BBBB bob', 'var'), 'in any order, and whoever goes');
    t.match(three, keys('ssh-ed25519 AAAA alice\n'), 'as it is in a file');
    t.throws(() => keys(key, key), { message: 'test/web: publicKeys[1] occurs twice' });
  });

  await t.test('values that only Terraform knows are handed on, or refused where the app has to know', async (t) => {
    const list = (stack: TerraformStack) => new TerraformVariable(stack, 'keys', { type: 'list(string)' }).listValue;
    const labels = (stack: TerraformStack) =>
      Token.asStringMap(new TerraformVariable(stack, 'labels', { type: 'map(string)' }).value);
    const { ucloud_vm: vms } = synthesize((stack) => {
      const sshKeys = list(stack);
      const common = { image, network: 'net-0', sshKeys };
      new VirtualMachine(stack, 'given', common);
      const own = new VirtualMachine(stack, 'joined', { ...common, publicKeys: [key] });
      const more = () => ({ sshKeys: own.ownKeys, labels: { role: 'first' } });
      new VmGroup(stack, 'group', { ...common, count: 1, labels: labels(stack), each: more });
    }).resource;
    t.equal(vms?.given?.ssh_keys, '${var.keys}');
    t.match(vms?.joined?.ssh_keys, /^\$\{concat\(\[ucloud_ssh_key\.joined_key-\w+\.id\], var\.keys\)\}$/);
    t.match(Object.entries(vms ?? {}).find(([name]) => name.startsWith('group'))?.[1], {
      ssh_keys: /^\$\{concat\(\[ucloud_ssh_key\.joined_key-\w+\.id\], var\.keys\)\}$/,
      labels: '${merge({"group" = "group"}, var.labels, {"role" = "first"})}',
    });
    const vm = (config: Partial<VirtualMachineConfig>) => (stack: TerraformStack) =>
      new VirtualMachine(stack, 'web', { image, network: 'net-0', publicKeys: list(stack), ...config });
    t.throws(() => synthesize(vm({})), {
      message: 'test/web: how many publicKeys there are must be known while the app runs, not only to Terraform',
    });
    const named = synthesize((stack) => {
      const name = new TerraformVariable(stack, 'name', { type: 'string' }).stringValue;
      new VirtualMachine(stack, 'web', { name, image: 'demo', publicKeys: [key] });
      new VmGroup(stack, 'all', { name: `${name}-all`, image, network: 'net-0', count: 1 });
    }).resource;
    t.match(only(named.ucloud_ssh_key).name, /^\$\{var\.name\}-[0-9a-f]{8}$/);
    t.strictSame(
      Object.values(named.ucloud_vm ?? {}).map((each) => each.name),
      ['${var.name}', '${var.name}-all-1'],
    );
  });

  await t.test('parts do what constructs do not: overrides, aspects, import and move', async (t) => {
    const { moved, ...json } = synthesize((stack) => {
      const web = new VirtualMachine(stack, 'web', { image, network: 'net-0' });
      web.vm.addOverride('memory', '4GiB');
      web.vm.importFrom('vm-0123456789abcdef');
      const old = new bindings.vm.Vm(stack, 'old', { name: 'db', image: image.id, interfaces: [{ network: 'net-0' }] });
      old.moveTo('db');
      new VirtualMachine(stack, 'db', { name: 'db', image, network: 'net-0' }).vm.addMoveTarget('db');
      Aspects.of(stack).add({
        visit(node) {
          if (node instanceof bindings.vm.Vm) node.deleteProtection = true;
        },
      });
      Testing.synth(stack); // calls the visitor
    }) as Synthesized & { import?: unknown; moved?: unknown };
    t.match(json.resource.ucloud_vm?.web, { memory: '4GiB', delete_protection: true });
    t.match(json.import, [{ to: 'ucloud_vm.web', id: 'vm-0123456789abcdef' }]);
    t.match(moved, [{ from: 'ucloud_vm.old', to: 'ucloud_vm.db' }]);
    t.strictSame(Object.keys(json.resource.ucloud_vm ?? {}), ['web', 'db']);
  });

  await t.test('an impossible construct is refused, with its path and the rule', async (t) => {
    const refused = (config: Partial<VirtualMachineConfig>, id = 'a') => {
      // JavaScript apps can omit required options.
      const any = config as VirtualMachineConfig;
      return () => synthesize((stack) => void new VirtualMachine(stack, id, any));
    };
    t.throws(refused({}), { message: 'test/a: image is missing: give its name, or an object with its id' });
    const rule = '1 to 63 lower-case letters, digits and inner hyphens';
    t.throws(refused({ image }, 'Web_1'), { message: `test/Web_1: name must be ${rule}, not "Web_1"` });
    t.throws(refused({ image, name: 'web.example.net' }), { message: /^test\/a: name must be/ });
    const long = 'a'.repeat(60);
    t.throws(refused({ image, name: long, publicKeys: [key] }), {
      message: new RegExp(
        `^test/a: the name of an SSH key, formed from name, must be ${rule}, not "${long}-[0-9a-f]{8}"$`,
      ),
    });
  });
});

t.test('Network brings its prefix, or lies where it is told to', async (t) => {
  t.strictSame(
    built((stack) => void new Network(stack, 'lan')),
    {
      'ucloud_network.lan': { name: 'lan', prefix: '${ucloud_prefix.lan_prefix_A8B07AA6.id}' },
      'ucloud_prefix.lan_prefix_A8B07AA6': { name: 'lan', length: 64 },
    },
  );
  t.strictSame(
    built((stack) => {
      const site = new bindings.prefix.Prefix(stack, 'site', { name: 'site', length: 56 });
      const lan = new Network(stack, 'lan', {
        name: 'office',
        prefix: site,
        dnsServers: ['2001:db8::53'],
        mtu: 1280,
        labels: { floor: '3' },
        project: 'prj-0123456789abcdef',
      });
      t.match([lan.id, lan.cidr, lan.gateway], [/TfToken/, /TfToken/, /TfToken/]);
      new Network(stack, 'given', { cidr: '2001:db8:0:7::/64', project: 'prj-0123456789abcdef' });
      new Network(stack, 'by-id', { prefix: 'pfx-0123456789abcdef', cidr: '2001:db8:0:8::/64' });
    }),
    {
      'ucloud_network.lan': {
        name: 'office',
        prefix: '${ucloud_prefix.site.id}',
        dns_servers: ['2001:db8::53'],
        mtu: 1280,
        labels: { floor: '3' },
        project: 'prj-0123456789abcdef',
      },
      'ucloud_prefix.site': { name: 'site', length: 56 },
      'ucloud_network.given': {
        name: 'given',
        cidr: '2001:db8:0:7::/64',
        prefix: '${ucloud_prefix.given_prefix_BD2D505A.id}',
        project: 'prj-0123456789abcdef',
      },
      'ucloud_prefix.given_prefix_BD2D505A': {
        name: 'given',
        cidr: '2001:db8:0:7::/64',
        project: 'prj-0123456789abcdef',
      },
      'ucloud_network.by-id': { name: 'by-id', prefix: 'pfx-0123456789abcdef', cidr: '2001:db8:0:8::/64' },
    },
  );

  const subnet = { name: 'lab', id: 'pfx-0', cidr: '2001:db8::/60', length: 60 };
  const refused = (config: object) => () =>
    synthesize((stack) => void new Network(stack, 'lan', config as NetworkConfig));
  t.throws(refused({ subnet }), { message: 'test/lan: a network needs a /64, but the subnet "lab" is a /60' });
  const whole = { ...subnet, cidr: '2001:db8::/64', length: 64 };
  t.throws(refused({ subnet: whole, prefix: 'pfx-0' }), {
    message: 'test/lan: subnet contains prefix and cidr, so give subnet alone',
  });
  t.throws(refused({ subnet: whole, cidr: '2001:db8::/64' }), { message: /give subnet alone/ });
  t.throws(refused({ name: 'LAN' }), { message: /^test\/lan: name must be 1 to 63 .* not "LAN"$/ });
});

t.test('VmGroup makes VMs that are alike', async (t) => {
  const group = (config: object) =>
    built((stack) => void new VmGroup(stack, 'web', { image, network: 'net-0', ...config } as VmGroupConfig));

  await t.test('on one network, with keys and image in common', async (t) => {
    const synthesized = synthesize((stack) => {
      const web = new VmGroup(stack, 'web', {
        image: 'demo',
        count: 2,
        publicKeys: [key],
        sshKeys: ['key-0123456789abcdef'],
        memory: '1GiB',
        labels: { tier: 'front' },
        each: (member) => (member === '1' ? { cpus: 4, labels: { role: 'first' }, sshKeys: ['key-1'] } : {}),
      });
      new TerraformOutput(stack, 'addresses', { value: web.addresses });
      new TerraformOutput(stack, 'hosts', { value: web.hosts });
      t.equal(web.member('2').name, 'web-2');
      t.throws(() => web.member('3'), { message: 'test/web: there is no member "3", only "1", "2"' });
    });
    t.strictSame(synthesized.output, {
      addresses: {
        value: { 'web-1': '${ucloud_vm.web_vm_1_68D1DBA2.address}', 'web-2': '${ucloud_vm.web_vm_2_18BC5056.address}' },
      },
      hosts: {
        value: {
          'web-1': '${ucloud_vm.web_vm_1_68D1DBA2.status.host}',
          'web-2': '${ucloud_vm.web_vm_2_18BC5056.status.host}',
        },
      },
    });
    const [keyName = ''] = Object.keys(synthesized.resource.ucloud_ssh_key ?? {});
    const mark = digits(key);
    t.match(keyName, `key-${mark}`);
    t.strictSame(objects(synthesized), {
      'data.ucloud_image.web_image_457C981C': { name: 'demo' },
      'ucloud_prefix.web_network_prefix_25838344': { name: 'web', length: 64 },
      'ucloud_network.web_network_666C4F10': { name: 'web', prefix: '${ucloud_prefix.web_network_prefix_25838344.id}' },
      [`ucloud_ssh_key.${keyName}`]: {
        name: `web-${mark}`,
        public_key: key,
        lifecycle: { create_before_destroy: true },
      },
      'ucloud_vm.web_vm_1_68D1DBA2': {
        name: 'web-1',
        image: '${data.ucloud_image.web_image_457C981C.id}',
        interfaces: [{ network: '${ucloud_network.web_network_666C4F10.id}' }],
        ssh_keys: [`\${ucloud_ssh_key.${keyName}.id}`, 'key-0123456789abcdef', 'key-1'],
        cpus: 4,
        memory: '1GiB',
        labels: { group: 'web', tier: 'front', role: 'first' },
        anti_affinity: { group: 'web', mode: 'preferred' },
      },
      'ucloud_vm.web_vm_2_18BC5056': {
        name: 'web-2',
        image: '${data.ucloud_image.web_image_457C981C.id}',
        interfaces: [{ network: '${ucloud_network.web_network_666C4F10.id}' }],
        ssh_keys: [`\${ucloud_ssh_key.${keyName}.id}`, 'key-0123456789abcdef'],
        memory: '1GiB',
        labels: { group: 'web', tier: 'front' },
        anti_affinity: { group: 'web', mode: 'preferred' },
      },
    });
  });

  await t.test('that stay as they are when their number changes', async (t) => {
    const [two, three] = [group({ count: 2 }), group({ count: 3 })];
    t.equal(Object.keys(two).length, 2);
    t.match(three, two);
    t.strictSame(
      Object.values(three).map((vm) => (vm as { name: string }).name),
      ['web-1', 'web-2', 'web-3'],
    );
    t.strictSame(group({ count: 0 }), {});

    const named = group({ members: ['a', 'b', 'c'] });
    const fewer = group({ members: ['c', 'a'] });
    t.strictSame(
      Object.values(fewer)
        .map((vm) => (vm as { name: string }).name)
        .toSorted(),
      ['web-a', 'web-c'],
    );
    t.match(named, fewer, 'whichever is taken out, and in any order');
  });

  await t.test('spread over hosts as firmly as is asked', async (t) => {
    const apart = (config: object) =>
      Object.values(group({ count: 2, ...config })).map((vm) => (vm as { anti_affinity?: unknown }).anti_affinity);
    const both = (wish: unknown) => [wish, wish];
    t.strictSame(apart({ spread: 'required' }), both({ group: 'web', mode: 'required' }));
    t.strictSame(apart({ name: 'front' }), both({ group: 'front', mode: 'preferred' }), 'named as the group is');
    t.strictSame(apart({ spread: 'none' }), both(undefined));
    t.strictSame(apart({ antiAffinity: { group: 'all' } }), both({ group: 'all' }), 'together with other VMs');
    t.throws(() => apart({ spread: 'none', antiAffinity: { group: 'all' } }), {
      message: 'test/web: give spread or antiAffinity, not both',
    });
    const alone = built((stack) => {
      new VirtualMachine(stack, 'db', { image, network: 'net-0', antiAffinity: { group: 'db' } });
    });
    t.match(Object.values(alone), [{ anti_affinity: { group: 'db' } }]);
  });

  await t.test('on hosts with the labels that are asked for', async (t) => {
    const selectors = (config: object) =>
      Object.values(group({ count: 2, ...config })).map((vm) => (vm as { host_selector?: unknown }).host_selector);
    t.strictSame(selectors({}), [undefined, undefined]);
    t.strictSame(selectors({ hostSelector: 'zone=a' }), ['zone=a', 'zone=a']);
    const zones = { each: (member: string) => ({ hostSelector: `zone=${member}` }) };
    t.strictSame(selectors(zones), ['zone=1', 'zone=2'], 'one zone for each member');
    const alone = built((stack) => {
      new VirtualMachine(stack, 'db', { image, network: 'net-0', hostSelector: 'disk in (ssd,nvme)' });
    });
    t.match(Object.values(alone), [{ host_selector: 'disk in (ssd,nvme)' }]);
  });

  await t.test('changed all at once, or one after the other', async (t) => {
    const waits = (rolling: boolean) => {
      const { resource } = synthesize((stack) => {
        const db = new VirtualMachine(stack, 'db', { image, network: 'net-0' });
        const common = { image, network: 'net-0', dependsOn: [db] };
        new VmGroup(stack, 'web', { ...common, members: ['a', 'b', 'c'], rolling });
      });
      const all = Object.values(resource.ucloud_vm ?? {});
      return Object.fromEntries(all.map(({ name, depends_on }) => [name, depends_on]));
    };
    const [db, a, b] = ['ucloud_vm.db', /^ucloud_vm\.web_vm_a_\w+$/, /^ucloud_vm\.web_vm_b_\w+$/];
    t.strictSame(waits(false), { db: undefined, 'web-a': [db], 'web-b': [db], 'web-c': [db] });
    t.match(waits(true), { db: undefined, 'web-a': [db], 'web-b': [db, a], 'web-c': [db, b] });
  });

  await t.test('and of which it can be said how many', async (t) => {
    t.throws(() => group({}), { message: 'test/web: give either count or members' });
    t.throws(() => group({ count: 1, members: ['a'] }), { message: /either count or members/ });
    for (const count of [-1, 1.5, Number.NaN]) {
      t.throws(() => group({ count }), { message: `test/web: count must be a whole number from 0, not ${count}` });
    }
    t.throws(() => group({ members: ['a', 'a'] }), { message: 'test/web: the member "a" occurs twice' });
    t.throws(() => group({ members: ['A'] }), { message: /^test\/web\/vm\/A: name must be 1 to 63 .* not "web-A"$/ });
    t.throws(() => group({ members: [''] }), { message: 'test/web: a member has no name' });
    t.throws(() => group({ count: 1, image: undefined }), { message: /^test\/web: image is missing/ });
    const unknown = 'must be known while the app runs, not only to Terraform';
    const only = (stack: TerraformStack) => new TerraformVariable(stack, 'only', {});
    const told = (config: (stack: TerraformStack) => object) => () =>
      synthesize(
        (stack) => new VmGroup(stack, 'web', { image, network: 'net-0', ...config(stack) } as unknown as VmGroupConfig),
      );
    t.throws(
      told((stack) => ({ count: only(stack).numberValue })),
      { message: `test/web: count ${unknown}` },
    );
    t.throws(
      told((stack) => ({ members: only(stack).listValue })),
      { message: `test/web: members ${unknown}` },
    );
    t.throws(
      told((stack) => ({ members: [only(stack).stringValue] })),
      { message: `test/web: a member ${unknown}` },
    );
  });
});

t.test('SecurityGroup and the rules of a Network', async (t) => {
  const https: SecurityRule = { direction: 'ingress', protocol: 'tcp', ports: ['443'], prefixes: ['::/0'] };
  const { resource } = synthesize((stack) => {
    const web = new SecurityGroup(stack, 'web', { vmSelector: 'tier=web', rules: [https] });
    const rules: SecurityRule[] = [
      { direction: 'ingress', protocol: 'tcp', ports: ['5432'], securityGroup: web },
      { direction: 'ingress', protocol: 'any', self: true },
    ];
    new Network(stack, 'db', { rules, kind: 'routed', project: 'prj-0' });
    new VirtualMachine(stack, 'front', { image, network: 'net-0', securityGroups: [web, 'sg-0'] });
  });
  t.match(Object.values(resource.ucloud_security_group ?? {}), [
    { name: 'web', vm_selector: 'tier=web', rules: [{ direction: 'ingress', protocol: 'tcp', ports: ['443'] }] },
    {
      name: 'db',
      project: 'prj-0',
      rules: [{ security_group: '${ucloud_security_group.web.id}' }, { self: true }],
    },
  ]);
  t.match(only(resource.ucloud_network), {
    name: 'db',
    kind: 'routed',
    default_security_groups: [/^\$\{ucloud_security_group\.db_rules_\w+\.id\}$/],
  });
  t.match(only(resource.ucloud_vm), {
    interfaces: [{ network: 'net-0', security_groups: ['${ucloud_security_group.web.id}', 'sg-0'] }],
  });
  const wrong = (rule: object) => () =>
    synthesize((stack) => new SecurityGroup(stack, 'web', { rules: [{ ...https, ...rule } as SecurityRule] }));
  const message = 'test/web: rule 0 must have exactly one of prefixes, securityGroup, self and vmSelector';
  t.throws(wrong({ self: true }), { message });
  t.throws(wrong({ prefixes: undefined }), { message });
});
