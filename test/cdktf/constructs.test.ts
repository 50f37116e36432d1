/** The CDKTF side: bindings from the schema that Terraform sees, the VirtualMachine construct, the example deployed. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { App, TerraformStack } from 'cdktf';
import t from 'tap';
import {
  bindings,
  UcloudProvider,
  VirtualMachine,
  type VirtualMachineConfig,
} from '../../provider/constructs/index.ts';
import { provider } from '../../provider/provider.ts';
import { schemaJson } from '../../scripts/generate/schema-json.ts';
import { startTestCloud } from '../support/cloud.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

interface Synthesized {
  readonly data?: Record<string, Record<string, { name: string }>>;
  readonly resource: Record<string, Record<string, Record<string, unknown>>>;
}

function synthesize(build: (stack: TerraformStack) => void): Synthesized {
  const stack = new TerraformStack(new App(), 'test');
  new UcloudProvider(stack, 'ucloud');
  build(stack);
  return stack.toTerraform() as Synthesized;
}
const only = <T>(of: Record<string, T> | undefined): T => {
  const [first, ...more] = Object.values(of ?? {});
  if (first === undefined || more.length > 0) throw new Error(`expected one, got ${Object.keys(of ?? {}).length}`);
  return first;
};

t.test('VirtualMachine brings what it needs, and takes what is there', async (t) => {
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T';
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
        imageId: 'img-0123456789abcdef',
        network: 'net-0123456789abcdef',
        mac: '42:00:5e:10:00:01',
      });
      new VirtualMachine(stack, 'b', { imageId: 'img-0123456789abcdef', prefix });
    });
    t.notOk(data);
    t.equal(Object.keys(resource.ucloud_prefix ?? {}).length, 1);
    t.match(Object.values(resource.ucloud_vm ?? {})[0], {
      image: 'img-0123456789abcdef',
      interfaces: [{ network: 'net-0123456789abcdef', mac: '42:00:5e:10:00:01' }],
    });
  });

  await t.test('what contradicts itself is refused', async (t) => {
    const refused = (config: VirtualMachineConfig) => () =>
      synthesize((stack) => void new VirtualMachine(stack, 'a', config));
    t.throws(refused({}), { message: 'test/a: give either the name of an image or its id' });
    t.throws(refused({ image: 'demo', imageId: 'img-0123456789abcdef' }), { message: /either the name/ });
    t.throws(refused({ image: 'demo', network: 'net-0', prefix: 'pfx-0' }), { message: /a network or a prefix/ });
  });
});

t.test('the quickstart, synthesized, is deployed by plain Terraform', { skip }, async (t) => {
  const cloud = await startTestCloud(t);
  const out = temporaryDirectory(t);
  execFileSync(process.execPath, [resolve('cdk-examples/quickstart/main.ts')], { cwd: out, stdio: 'pipe' });
  const stack = readFileSync(join(out, 'cdktf.out/stacks/quickstart/cdk.tf.json'), 'utf8');
  const directory = cloud.terraform(t, { 'cdk.tf.json': stack, 'provider.tf': '' });
  const key = '-var=public_key=ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T';
  await directory.run('init', '-no-color');

  const seen = JSON.parse(await directory.run('providers', 'schema', '-json')) as {
    provider_schemas: Record<string, Record<string, unknown>>;
  };
  const { functions: _functions, ...schema } = seen.provider_schemas[provider.address] ?? {};
  t.strictSame(
    schema,
    JSON.parse(JSON.stringify((await schemaJson()).provider_schemas[provider.address])),
    'bindings are made of the schema that Terraform sees',
  );

  await directory.apply(key);
  const { addresses } = (await directory.outputs()) as { addresses: Record<string, string> };
  const vms = (await cloud.member.list('vms')).items;
  t.strictSame(
    addresses,
    Object.fromEntries(vms.map((vm) => [vm.name, vm.address])),
    'each VM has the address that it says',
  );
  t.strictSame(Object.keys(addresses).toSorted(), ['db', 'web']);
  t.strictSame(await directory.pending(key), []);
  await directory.destroy(key);
  t.equal((await cloud.member.list('vms')).items.length, 0);
});
