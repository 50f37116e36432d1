/** The constructs as a library: with cdktf and with cdktn, with other stacks and providers, in JSON and in HCL. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Terraform's references
import { readFileSync } from 'node:fs';
import { App, LocalBackend, TerraformCount, TerraformIterator, TerraformOutput, TerraformStack, Token } from 'cdktf';
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
  PrefixPlan,
  UcloudProvider,
  VirtualMachine,
  VmGroup,
} from '../../provider/constructs/index.ts';
import { provider } from '../../provider/provider.ts';
import { testPublicKey as key } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { built, objects, only, type Synthesized } from '../support/synthesized.ts';

t.test('with cdktn, the same constructs give the same', async (t) => {
  // This also checks the types: each side uses the classes of its own library.
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

  t.throws(() => new EphemeralUcloudToken(stack, 'both', { count: 1, forEach: TerraformIterator.fromList(['a']) }), {
    message: 'test/both: give count or forEach, not both',
  });

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

  await t.test('with every meta-argument that Terraform has for them', async (t) => {
    const build = (stack: TerraformStack) => {
      new UcloudProvider(stack, 'ucloud');
      const roles = TerraformIterator.fromList(['viewer', 'member']);
      new EphemeralUcloudToken(stack, 'each', { role: roles.value, forEach: roles });
      const two = TerraformCount.of(2);
      const lifecycle = { postcondition: [{ condition: 'self.secret != ""', errorMessage: 'no secret' }] };
      new EphemeralUcloudToken(stack, 'two', { name: Token.asString(two.index), count: two, lifecycle });
      return (stack.toTerraform() as WithEphemeral).ephemeral.ucloud_token ?? {};
    };
    const { each, two } = build(new TerraformStack(new App(), 'test'));
    t.match(each, { role: '${each.value}', for_each: '${toset(["viewer", "member"])}' });
    t.match(two, {
      name: '${count.index}',
      count: 2,
      lifecycle: { postcondition: [{ condition: 'self.secret != ""', error_message: 'no secret' }] },
    });
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

t.test('the provider is installed from where one of the stack says', async (t) => {
  const sources = (...given: (string | undefined)[]) => {
    const stack = new TerraformStack(new App(), 'test');
    for (const [index, source] of given.entries()) {
      new UcloudProvider(stack, `p${index}`, {
        ...(index > 0 && { alias: `p${index}` }),
        ...(source !== undefined && { source }),
      });
    }
    const json = stack.toTerraform() as { terraform: { required_providers: { ucloud: unknown } } };
    t.match(stack.toHclTerraform().hcl, `source = "${given.find(Boolean) ?? provider.address}"`);
    return json.terraform.required_providers.ucloud;
  };
  const { version } = provider;
  t.strictSame(sources(undefined), { source: provider.address, version });
  const own = 'cloud.example.net:7780/ucloud/ucloud';
  for (const given of [[own], [undefined, own], [own, undefined], [own, own]]) {
    t.strictSame(sources(...given), { source: own, version });
  }
  t.throws(() => sources(own, 'other.example.net/ucloud/ucloud'), {
    message: `test/p1: source is other.example.net/ucloud/ucloud, but another provider of the stack has ${own}`,
  });
  t.throws(() => sources('https://cloud.example.net'), {
    message: 'test/p0: source must be the host name of the cloud and /ucloud/ucloud, not "https://cloud.example.net"',
  });
});

t.test('one stack uses the objects of another', async (t) => {
  const outdir = temporaryDirectory(t);
  const app = new App({ outdir });
  const [core, web] = [new TerraformStack(app, 'core'), new TerraformStack(app, 'web')];
  for (const stack of [core, web]) {
    new UcloudProvider(stack, 'ucloud');
    new LocalBackend(stack, { path: `${stack.node.id}.tfstate` });
  }
  const site = new PrefixPlan(core, 'site', { subnets: ['lan'] });
  const key = new bindings.sshKey.SshKey(core, 'key', { name: 'alice', publicKey: 'ssh-ed25519 AAAA' });
  const lan = new Network(web, 'lan', { subnet: site.subnet('lan') });
  new VirtualMachine(web, 'vm', { image: 'demo', network: lan, sshKeys: [key], publicKeys: [key.publicKey] });
  app.synth();
  const { resource, data } = JSON.parse(readFileSync(`${outdir}/stacks/web/cdk.tf.json`, 'utf8')) as Synthesized;
  t.match(Object.keys(data ?? {}), ['terraform_remote_state']);
  const output = (name: string) => `data.terraform_remote_state.cross-stack-reference-input-core.outputs.${name}`;
  t.match(only(resource.ucloud_network), {
    prefix: `\${${output('cross-stack-output-ucloud_prefixsiteid')}}`,
    cidr: `\${cidrsubnet(${output('cross-stack-output-ucloud_prefixsitecidr')}, 8, 0)}`,
  });
  t.match(only(resource.ucloud_vm).ssh_keys, [/\.id\}$/, `\${${output('cross-stack-output-ucloud_ssh_keykeyid')}}`]);
});

t.test('apps may write HCL', async (t) => {
  const write = (stack: TerraformStack | TerrainStack) => stack.toHclTerraform().hcl as string;
  const app = new App({ hclOutput: true });
  const stack = new TerraformStack(app, 'test');
  const ucloud = new UcloudProvider(stack, 'ucloud');
  const site = new PrefixPlan(stack, 'site', { subnets: ['lan'] });
  const network = new Network(stack, 'lan', { subnet: site.subnet('lan') });
  new VmGroup(stack, 'web', { image: 'demo', count: 1, network, timeouts: { create: '5m' } });
  const hcl = write(stack);
  // Nested attributes, not blocks.
  t.match(hcl, /anti_affinity = \{\ngroup = "web"\nmode = "preferred"\n\}/);
  t.match(hcl, /interfaces = \[\n\{\nnetwork = "\$\{ucloud_network\.lan\.id\}"\n\},\n\]/);
  t.match(hcl, /timeouts = \{\ncreate = "5m"\n\}/);
  t.notMatch(hcl, 'undefined');

  new EphemeralUcloudToken(stack, 'run', { provider: ucloud });
  t.throws(() => write(stack), {
    message: 'test/run: cdktf writes ephemeral resources in JSON only, not in HCL; cdktn writes both',
  });
  const terrainStack = new TerrainStack(new TerrainApp({ hclOutput: true }), 'test');
  new terrain.UcloudProvider(terrainStack, 'ucloud');
  new terrain.EphemeralUcloudToken(terrainStack, 'run', { role: 'viewer' });
  t.match(write(terrainStack), /ephemeral "ucloud_token" "run" \{\n.*role = "viewer"/);
});
