/** The higher constructs, by the JSON that they synthesize, with cdktf and with cdktn. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Terraform's references
import { App, TerraformOutput, TerraformStack } from 'cdktf';
import {
  TerraformEphemeralResource,
  App as TerrainApp,
  TerraformOutput as TerrainOutput,
  TerraformStack as TerrainStack,
} from 'cdktn';
import t from 'tap';
import * as terrain from '../../provider/constructs/cdktn/index.ts';
import {
  bindings,
  EphemeralUcloudToken,
  functionsOf,
  Network,
  type NetworkConfig,
  PrefixPlan,
  type PrefixPlanConfig,
  UcloudProvider,
  VirtualMachine,
  type VirtualMachineConfig,
  VmGroup,
  type VmGroupConfig,
} from '../../provider/constructs/index.ts';
import { provider } from '../../provider/provider.ts';

const image = 'img-0123456789abcdef';
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T';

interface Synthesized {
  readonly data?: Record<string, Record<string, { name: string }>>;
  readonly output?: Record<string, { value: unknown }>;
  readonly resource: Record<string, Record<string, Record<string, unknown>>>;
}

function synthesize(build: (stack: TerraformStack) => void): Synthesized {
  const stack = new TerraformStack(new App(), 'test');
  new UcloudProvider(stack, 'ucloud');
  build(stack);
  return stack.toTerraform() as Synthesized;
}

/** The resources and data sources by their Terraform addresses, without what cdktf notes about itself. */
function objects({ resource = {}, data = {} }: Partial<Synthesized>): Record<string, unknown> {
  const flat = (kinds: Record<string, Record<string, object>>, prefix: string) =>
    Object.entries(kinds).flatMap(([type, named]) =>
      Object.entries(named).map(([name, object]) => {
        const { '//': _metadata, ...attributes } = object as Record<string, unknown>;
        return [`${prefix}${type}.${name}`, attributes];
      }),
    );
  return Object.fromEntries([...flat(resource, ''), ...flat(data, 'data.')]);
}
const built = (build: (stack: TerraformStack) => void) => objects(synthesize(build));
const only = <T>(of: Record<string, T> | undefined): T => {
  const [first, ...more] = Object.values(of ?? {});
  if (first === undefined || more.length > 0) throw new Error(`expected one, got ${Object.keys(of ?? {}).length}`);
  return first;
};

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
    t.match(only(resource.ucloud_ssh_key), { name: 'web-0', public_key: key });
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
    const { resource } = synthesize((stack) => {
      const web = new VirtualMachine(stack, 'web', { image: 'demo', publicKeys: [key] });
      new VirtualMachine(stack, 'db', { image: 'demo', network: web.network, sshKeys: web.ownKeys, name: 'db-1' });
    });
    t.equal(Object.keys(resource.ucloud_network ?? {}).length, 1);
    t.equal(Object.keys(resource.ucloud_ssh_key ?? {}).length, 1);
    const [web, db] = Object.values(resource.ucloud_vm ?? {});
    t.strictSame([db?.interfaces, db?.ssh_keys], [web?.interfaces, web?.ssh_keys]);
    t.equal(db?.name, 'db-1');
  });

  await t.test('with ids, and a network of its own in a given prefix', async (t) => {
    const { resource, data } = synthesize((stack) => {
      const prefix = new bindings.prefix.Prefix(stack, 'site', { name: 'site' });
      new VirtualMachine(stack, 'a', {
        imageId: image,
        network: 'net-0123456789abcdef',
        mac: '42:00:5e:10:00:01',
      });
      new VirtualMachine(stack, 'b', { imageId: image, prefix });
    });
    t.notOk(data);
    t.equal(Object.keys(resource.ucloud_prefix ?? {}).length, 1);
    t.match(Object.values(resource.ucloud_vm ?? {})[0], {
      image,
      interfaces: [{ network: 'net-0123456789abcdef', mac: '42:00:5e:10:00:01' }],
    });
  });

  await t.test('what contradicts itself is refused', async (t) => {
    const refused = (config: VirtualMachineConfig) => () =>
      synthesize((stack) => void new VirtualMachine(stack, 'a', config));
    t.throws(refused({}), { message: 'test/a: give either the name of an image or its id' });
    t.throws(refused({ image: 'demo', imageId: image }), { message: /either the name/ });
    t.throws(refused({ image: 'demo', network: 'net-0', prefix: 'pfx-0' }), { message: /a network or a prefix/ });
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
  const refused = (config: NetworkConfig) => () => synthesize((stack) => void new Network(stack, 'lan', config));
  t.throws(refused({ subnet }), { message: 'test/lan: a network needs a /64, but the subnet "lab" is a /60' });
  const whole = { ...subnet, cidr: '2001:db8::/64', length: 64 };
  t.throws(refused({ subnet: whole, prefix: 'pfx-0' }), {
    message: 'test/lan: subnet says prefix and cidr, so give only that',
  });
  t.throws(refused({ subnet: whole, cidr: '2001:db8::/64' }), { message: /give only that/ });
});

t.test('PrefixPlan cuts a prefix', async (t) => {
  await t.test('of its own, into subnets for networks and for further plans', async (t) => {
    t.strictSame(
      built((stack) => {
        const site = new PrefixPlan(stack, 'site', {
          name: 'site-a',
          pool: 'pool-0123456789abcdef',
          labels: { site: 'a' },
          subnets: ['web', { name: 'lab', length: 60 }, { name: 'old', retired: true }, 'db'],
        });
        t.strictSame(
          site.subnets.map(({ name, length }) => [name, length]),
          [
            ['web', 64],
            ['lab', 60],
            ['db', 64],
          ],
        );
        const lab = new PrefixPlan(stack, 'lab', { within: site.subnet('lab'), subnets: ['alice', 'bob'] });
        t.equal(lab.prefix, undefined);
        for (const subnet of [site.subnet('web'), site.subnet('db'), lab.subnet('bob')]) {
          new Network(stack, subnet.name, { subnet });
        }
      }),
      {
        'ucloud_prefix.site': {
          name: 'site-a',
          length: 56,
          pool: 'pool-0123456789abcdef',
          labels: { site: 'a' },
        },
        'ucloud_network.web': {
          name: 'web',
          prefix: '${ucloud_prefix.site.id}',
          cidr: '${cidrsubnet(ucloud_prefix.site.cidr, 8, 0)}',
        },
        // The /60 starts at 16, so what is retired has the place 1, and this one 2.
        'ucloud_network.db': {
          name: 'db',
          prefix: '${ucloud_prefix.site.id}',
          cidr: '${cidrsubnet(ucloud_prefix.site.cidr, 8, 2)}',
        },
        'ucloud_network.bob': {
          name: 'bob',
          prefix: '${ucloud_prefix.site.id}',
          cidr: '${cidrsubnet(cidrsubnet(ucloud_prefix.site.cidr, 4, 1), 4, 1)}',
        },
      },
    );
  });

  await t.test('that is there already', async (t) => {
    const { output } = synthesize((stack) => {
      const cut = (id: string, config: Omit<PrefixPlanConfig, 'subnets'>) => {
        const { subnets } = new PrefixPlan(stack, id, { ...config, subnets: [{ name: 'a', length: 60 }, 'b'] });
        new TerraformOutput(stack, `${id}-cidrs`, { staticId: true, value: subnets.map((each) => each.cidr) });
      };
      const { Prefix } = bindings.prefix;
      cut('literal', { within: { id: 'pfx-0', cidr: '2001:DB8:0::/48' } });
      const made = new Prefix(stack, 'made', { name: 'made', length: 48 });
      cut('resource', { within: made });
      cut('wished', { within: new Prefix(stack, 'wish', { name: 'wish', cidr: '2001:db8::/52' }) });
      const found = new bindings.dataUcloudPrefix.DataUcloudPrefix(stack, 'found', { name: 'found' });
      cut('data', { within: found, length: 56 });
      t.throws(() => cut('unknown', { within: found }), {
        message: 'test/unknown: give length, which within does not tell before apply',
      });
      t.throws(() => cut('other', { within: made, length: 56 }), {
        message: 'test/other: within is a /48, but length is 56',
      });
    });
    t.strictSame(Object.fromEntries(Object.entries(output ?? {}).map(([name, { value }]) => [name, value])), {
      // Places that are known are written out.
      'literal-cidrs': ['2001:db8::/60', '2001:db8:0:10::/64'],
      'resource-cidrs': [
        '${cidrsubnet(ucloud_prefix.made.cidr, 12, 0)}',
        '${cidrsubnet(ucloud_prefix.made.cidr, 16, 16)}',
      ],
      // Still an expression, so that the prefix is made first.
      'wished-cidrs': [
        '${cidrsubnet(ucloud_prefix.wish.cidr, 8, 0)}',
        '${cidrsubnet(ucloud_prefix.wish.cidr, 12, 16)}',
      ],
      'data-cidrs': [
        '${cidrsubnet(data.ucloud_prefix.found.cidr, 4, 0)}',
        '${cidrsubnet(data.ucloud_prefix.found.cidr, 8, 16)}',
      ],
    });
  });

  await t.test('unless it contradicts itself', async (t) => {
    const refused = (config: PrefixPlanConfig) => () => synthesize((stack) => void new PrefixPlan(stack, 'p', config));
    const within = { id: 'pfx-0', cidr: '2001:db8::/62' };
    t.throws(refused({ within, name: 'a', subnets: [] }), { message: /^test\/p: name is for a prefix of its own/ });
    t.throws(refused({ within, pool: 'pool-0', subnets: [] }), { message: /^test\/p: pool is for/ });
    t.throws(refused({ within, subnets: ['a', 'b', 'c', 'd', 'e'] }), {
      message: 'test/p: subnet "e", a /64, has no room left in the /62',
    });
    t.throws(refused({ within: { id: 'pfx-0', cidr: '2001:db8::1/62' }, subnets: [] }), {
      message: 'test/p: "2001:db8::1/62" is no IPv6 prefix such as 2001:db8::/56',
    });
    t.throws(refused({ within: { id: 'pfx-0', cidr: '10.0.0.0/8' }, length: 56, subnets: [] }), {
      message: /is no IPv6/,
    });
    t.throws(() => synthesize((stack) => new PrefixPlan(stack, 'p', { subnets: ['a', 'b'] }).subnet('c')), {
      message: 'test/p: there is no subnet "c", only "a", "b"',
    });
  });
});

t.test('VmGroup makes VMs that are alike', async (t) => {
  const group = (config: Omit<VmGroupConfig, 'imageId' | 'image'>) =>
    built((stack) => void new VmGroup(stack, 'web', { imageId: image, network: 'net-0', ...config }));

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
    t.strictSame(objects(synthesized), {
      'data.ucloud_image.web_image_457C981C': { name: 'demo' },
      'ucloud_prefix.web_network_prefix_25838344': { name: 'web', length: 64 },
      'ucloud_network.web_network_666C4F10': { name: 'web', prefix: '${ucloud_prefix.web_network_prefix_25838344.id}' },
      'ucloud_ssh_key.web_key-0_0D2BA915': { name: 'web-0', public_key: key },
      'ucloud_vm.web_vm_1_68D1DBA2': {
        name: 'web-1',
        image: '${data.ucloud_image.web_image_457C981C.id}',
        interfaces: [{ network: '${ucloud_network.web_network_666C4F10.id}' }],
        ssh_keys: ['${ucloud_ssh_key.web_key-0_0D2BA915.id}', 'key-0123456789abcdef', 'key-1'],
        cpus: 4,
        memory: '1GiB',
        labels: { group: 'web', tier: 'front', role: 'first' },
        anti_affinity: { group: 'web', mode: 'preferred' },
      },
      'ucloud_vm.web_vm_2_18BC5056': {
        name: 'web-2',
        image: '${data.ucloud_image.web_image_457C981C.id}',
        interfaces: [{ network: '${ucloud_network.web_network_666C4F10.id}' }],
        ssh_keys: ['${ucloud_ssh_key.web_key-0_0D2BA915.id}', 'key-0123456789abcdef'],
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
    const apart = (config: Partial<VmGroupConfig>) =>
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
      new VirtualMachine(stack, 'db', { imageId: image, network: 'net-0', antiAffinity: { group: 'db' } });
    });
    t.match(Object.values(alone), [{ anti_affinity: { group: 'db' } }]);
  });

  await t.test('and of which it can be said how many', async (t) => {
    t.throws(() => group({}), { message: 'test/web: give either count or members' });
    t.throws(() => group({ count: 1, members: ['a'] }), { message: /either count or members/ });
    for (const count of [-1, 1.5, Number.NaN]) {
      t.throws(() => group({ count }), {
        message: `test/web: count must be a whole number from 0, known before apply, not ${count}`,
      });
    }
    t.throws(() => group({ members: ['a', 'a'] }), { message: 'test/web: the member "a" is there twice' });
    t.throws(() => group({ count: 1, prefix: 'pfx-0' }), { message: /a network or a prefix/ });
    t.throws(() => synthesize((stack) => void new VmGroup(stack, 'web', { count: 1 })), {
      message: /name of an image/,
    });
  });
});

t.test('with cdktn, the same constructs give the same', async (t) => {
  // Types, too: each side is written with the classes of its own library.
  const withCdktf = built((stack) => {
    const site = new PrefixPlan(stack, 'site', { subnets: ['web', 'db'] });
    const web = new Network(stack, 'web', { subnet: site.subnet('web') });
    new VmGroup(stack, 'front', {
      image: 'demo',
      count: 2,
      network: web,
      publicKeys: [key],
      timeouts: { create: '5m' },
    });
    new VirtualMachine(stack, 'db', {
      image: 'demo',
      network: new Network(stack, 'db-net', { subnet: site.subnet('db') }),
    });
  });
  const stack = new TerrainStack(new TerrainApp(), 'test');
  new terrain.UcloudProvider(stack, 'ucloud');
  const site = new terrain.PrefixPlan(stack, 'site', { subnets: ['web', 'db'] });
  const web = new terrain.Network(stack, 'web', { subnet: site.subnet('web') });
  new terrain.VmGroup(stack, 'front', {
    image: 'demo',
    count: 2,
    network: web,
    publicKeys: [key],
    timeouts: { create: '5m' },
  });
  new terrain.VirtualMachine(stack, 'db', {
    image: 'demo',
    network: new terrain.Network(stack, 'db-net', { subnet: site.subnet('db') }),
  });
  const withCdktn = stack.toTerraform() as Synthesized & { terraform: { required_providers: unknown } };
  t.strictSame(objects(withCdktn), withCdktf);
  t.strictSame(withCdktn.terraform.required_providers, {
    ucloud: { source: provider.address, version: provider.version },
  });
  t.ok(Object.keys(withCdktf).length >= 9);
});

t.test('functions and ephemeral resources', async (t) => {
  interface WithEphemeral extends Synthesized {
    readonly ephemeral: Record<string, Record<string, Record<string, unknown>>>;
    readonly provider: Record<string, Record<string, unknown>[]>;
    readonly terraform: { readonly required_providers: unknown };
  }
  const stack = new TerraformStack(new App(), 'test');
  const ucloud = new UcloudProvider(stack, 'ucloud');
  const network = new Network(stack, 'lan');
  const { eui64Address, reverseName, subnet } = functionsOf(ucloud);
  new TerraformOutput(stack, 'third', { value: subnet('2001:db8::/56', 64, 2) });
  new TerraformOutput(stack, 'name', { value: reverseName(eui64Address(network.cidr, '42:00:5e:10:00:01')) });
  const token = new EphemeralUcloudToken(stack, 'run', {
    role: 'viewer',
    provider: ucloud,
    dependsOn: [network.network],
  });
  token.addOverride('lifetime', '30m');
  new UcloudProvider(stack, 'viewer', { alias: 'viewer', token: token.secret });
  const withCdktf = stack.toTerraform() as WithEphemeral;

  t.equal(withCdktf.output?.third?.value, '${provider::ucloud::subnet("2001:db8::/56", 64, 2)}');
  t.match(
    withCdktf.output?.name?.value,
    /^\$\{provider::ucloud::reverse_name\(provider::ucloud::eui64_address\(ucloud_network\.\w+\.cidr, "42:00:5e:10:00:01"\)\)\}$/,
  );
  const { '//': _metadata, ...block } = only(withCdktf.ephemeral.ucloud_token);
  t.match(block, { role: 'viewer', provider: 'ucloud', lifetime: '30m', depends_on: [/^ucloud_network\.\w+$/] });
  t.strictSame(
    Object.keys(block).toSorted(),
    ['depends_on', 'lifetime', 'provider', 'role'],
    'and nothing that was not said',
  );
  t.match(withCdktf.provider.ucloud?.[1], { alias: 'viewer', token: /^\$\{ephemeral\.ucloud_token\.run\.secret\}$/ });
  t.strictSame(withCdktf.terraform.required_providers, {
    ucloud: { source: provider.address, version: provider.version },
  });

  await t.test('with cdktn the same', async (t) => {
    const stack = new TerrainStack(new TerrainApp(), 'test');
    const ucloud = new terrain.UcloudProvider(stack, 'ucloud');
    const network = new terrain.Network(stack, 'lan');
    const { eui64Address, reverseName, subnet } = terrain.functionsOf(ucloud);
    const outputs = {
      third: subnet('2001:db8::/56', 64, 2),
      name: reverseName(eui64Address(network.cidr, '42:00:5e:10:00:01')),
    };
    for (const [name, value] of Object.entries(outputs)) new TerrainOutput(stack, name, { value });
    const token = new terrain.EphemeralUcloudToken(stack, 'run', {
      role: 'viewer',
      provider: ucloud,
      dependsOn: [network.network],
    });
    t.ok(TerraformEphemeralResource.isTerraformEphemeralResource(token), 'it is what the library has for it');
    token.addOverride('lifetime', '30m');
    new terrain.UcloudProvider(stack, 'viewer', { alias: 'viewer', token: token.secret });
    const withCdktn = stack.toTerraform() as WithEphemeral;
    const { '//': _metadata, ...own } = only(withCdktn.ephemeral.ucloud_token);
    t.strictSame(own, block);
    t.strictSame(withCdktn.output, withCdktf.output);
    t.strictSame(withCdktn.provider, withCdktf.provider);
  });
});
