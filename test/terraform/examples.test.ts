/** Applies every example of the provider's documentation. For the quickstart, the provider is installed as for users. */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { buildProvider, platform } from '../../provider/build.ts';
import { version } from '../../provider/schema/resources.gen.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { rawDisk } from '../support/disk-images.ts';
import { until } from '../support/eventually.ts';
import { fileRecord, fileServerRecord } from '../support/file-records.ts';
import { sampleBill, sampleLines, storeBill } from '../support/sample-bills.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;
const examples = resolve('provider/examples');
let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t, { hostName: 'example', fileServer: true });
});

t.test('the quickstart, with the provider installed from a mirror and the credentials file', { skip }, async (t) => {
  const dist = temporaryDirectory(t);
  const { mirror } = await buildProvider(dist);
  const credentials = join(dist, 'credentials.json');
  writeFileSync(
    credentials,
    JSON.stringify({ endpoint: cloud.api.url, token: cloud.member.token, project: cloud.project }),
  );
  const directory = new TerraformDirectory(
    {
      'main.tf': readFileSync(`${examples}/quickstart/main.tf`, 'utf8'),
      // With `"type": "module"`, Node takes `.0` in a file name for a file type.
      'package.json': '{ "type": "module" }',
    },
    {
      mirror,
      environment: { UCLOUD_CREDENTIALS: credentials, UCLOUD_NODE: process.execPath, TF_VAR_public_key: testPublicKey },
    },
  );
  t.teardown(() => directory.remove());
  await directory.run('init', '-no-color');
  await directory.apply();
  const { addresses } = (await directory.outputs()) as { addresses: Record<string, string> };
  const vms = (await cloud.member.list('vms')).items;
  t.strictSame(addresses, Object.fromEntries(vms.map((vm) => [vm.name, vm.address])));
  t.strictSame(Object.keys(addresses).toSorted(), ['db', 'web']);
  t.match(vms, [{ status: { ready: true } }, { status: { ready: true } }], 'both have reported that they are ready');
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
  t.equal((await cloud.member.list('vms')).items.length, 0);
});

t.test('the mirror of build:provider works whatever Node is on the PATH', { skip }, async (t) => {
  const dist = temporaryDirectory(t);
  const { mirror } = await buildProvider(dist);
  const installed = join(mirror, 'ucloud.localhost/ucloud/ucloud', version, platform);
  const bytes = readdirSync(installed).map((name) => statSync(join(installed, name)).size);
  t.ok(Math.max(...bytes) < 1_000_000, 'Terraform computes the checksum of few bytes');
  const terraform = realpathSync(execFileSync('sh', ['-c', 'command -v terraform'], { encoding: 'utf8' }).trim());
  for (const [what, node] of [
    ['none', undefined],
    ['one that is too old', '#!/bin/sh\necho \'{"Node":"v20"}\'\nexit 1\n'],
  ] as const) {
    const bin = join(dist, what);
    mkdirSync(bin);
    symlinkSync(terraform, join(bin, 'terraform'));
    symlinkSync('/bin/sh', join(bin, 'sh'));
    if (node !== undefined) writeFileSync(join(bin, 'node'), node, { mode: 0o755 });
    const directory = new TerraformDirectory(
      {
        'main.tf': `${readFileSync(`${examples}/provider/provider.tf`, 'utf8')}data "ucloud_image" "a" {\n  name = "demo"\n}`,
      },
      { mirror, environment: { PATH: bin, UCLOUD_CREDENTIALS: join(dist, 'no-credentials') } },
    );
    t.teardown(() => directory.remove());
    await directory.run('init', '-no-color');
    await directory.run('validate', '-no-color');
    const [told] = await directory.diagnostics('plan');
    t.match(told, { summary: 'No endpoint is configured' }, `Node on the PATH: ${what}`);
  }
});

t.test('every example of a resource, a data source, an ephemeral resource and a function', { skip }, async (t) => {
  const { operator } = cloud.api;
  const kinds = ['resources', 'data-sources', 'ephemeral-resources', 'functions'].flatMap((kind) =>
    readdirSync(`${examples}/${kind}`).map((name) => ({ kind, name })),
  );
  const directory = new TerraformDirectory({}, { reattach: cloud.reattach });
  t.teardown(() => directory.remove());
  // A relative path of an example begins at the directory of Terraform, in which the provider of a user runs, too.
  const before = process.cwd();
  t.teardown(() => process.chdir(before));
  process.chdir(directory.path);

  // The objects that the data sources find.
  const project = await operator.create('projects', { name: 'example' });
  await operator.create('prefix-pools', { name: 'example', cidr: '2001:db8:e000::/36' });
  await operator.create('storage-pools', { name: 'example', kind: 'shared', path: '/srv/example' });
  await operator.create('bgp-peers', { name: 'example', address: '2001:db8::1', asn: 65001, local_asn: 65002 });
  const party = {
    ...{ name: 'example', legal_name: 'Example AG', email: 'a@example.com' },
    address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  };
  const entity = await operator.create('legal-entities', { ...party, number_series: 'E-' });
  const payer = await operator.create('billing-accounts', { ...party, currency: 'CHF', legal_entity: entity.id });
  await operator.update('projects', project.id, { billing_account: payer.id });
  await operator.create('budgets', { project: project.id, max_monthly_cost: '1000' });
  const sample = sampleBill(sampleLines(2), { number: 'EX-000001' });
  await storeBill(cloud.api.store, sample, { billing_account: payer.id, legal_entity: entity.id });
  const product = await operator.create('products', { name: 'example', meter: 'booked' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '150', per: 'once' });
  const scope = { name: 'example', project: project.id };
  await operator.create('tokens', scope);
  await operator.create('ssh-keys', { ...scope, public_key: testPublicKey });
  const prefix = await operator.create('prefixes', scope);
  const network = await operator.create('networks', { ...scope, prefix: prefix.id });
  const [image] = (await operator.list('images', '?name=demo')).items;
  const vm = await operator.create('vms', { ...scope, image: image?.id, interfaces: [{ network: network.id }] });
  const volume = await operator.create('volumes', { ...scope, size: '1GiB' });
  await operator.create('volume-attachments', { vm: vm.id, volume: volume.id });
  await operator.create('security-groups', { project: project.id, name: 'example' });
  await operator.create('prefix-routes', { name: 'example', prefix: prefix.id, length: 64, vm: vm.id });

  await until('the VM has a disk', async () => (await operator.get('vms', vm.id)).status.host !== undefined);
  await operator.create('snapshots', { name: 'example', vm: vm.id });
  await operator.create('snapshot-schedules', { name: 'example', vm: vm.id, cron: '0 3 * * *', retain: 7 });

  const server = newId('file_server');
  const file = fileRecord(server, project.id as Id<'project'>, 'example.raw');
  await cloud.api.store.commit({
    write: [
      put(records.fileServers, server, { ...fileServerRecord(server), name: 'example' }),
      put(records.files, file.id, file),
    ],
  });

  let main = '';
  for (const { kind, name } of kinds) {
    const module = `${kind}_${name}`;
    // Examples of resources use the same names, so each gets a project of its own.
    const own =
      kind === 'resources' ? (await operator.create('projects', { name: module.replaceAll('_', '-') })).id : project.id;
    if (module === 'resources_ucloud_image') cloud.file(own, 'debian-13.qcow2');
    main += `
provider "ucloud" {
  alias    = "${module}"
  endpoint = "${cloud.api.url}"
  token    = "${cloud.api.operatorToken}"
  project  = "${own}"
}
module "${module}" {
  source    = "./${module}"
  providers = { ucloud = ucloud.${module} }
}
`;
    cpSync(`${examples}/${kind}/${name}`, join(directory.path, module), { recursive: true });
    directory.write({ [`${module}/versions.tf`]: requirement });
    if (module === 'resources_ucloud_file') writeFileSync(join(directory.path, module, 'appliance.qcow2'), rawDisk());
  }
  const results = { eui64_address: 'address', reverse_name: 'name', subnet: 'third' };
  for (const [name, output] of Object.entries(results))
    main += `output "${name}" {\n  value = module.functions_${name}.${output}\n}\n`;
  directory.write({ 'main.tf': requirement + main });
  await directory.run('init', '-no-color');
  await directory.apply();
  const state = await directory.state();
  const made = new Set(state.map(({ address }) => address.split('.')[1]));
  const kept = kinds.filter(({ kind }) => kind === 'resources' || kind === 'data-sources');
  for (const { kind, name } of kept) t.ok(made.has(`${kind}_${name}`), `${kind} ${name}`);
  t.strictSame(await directory.outputs(), {
    eui64_address: '2001:db8:0:100:4000:5eff:fe10:1',
    reverse_name: '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa',
    subnet: '2001:db8:0:2::/64',
  });
  t.strictSame(await directory.pending(), [], 'a second plan has nothing to do');

  // Each page shows the import of its example, with a block and with a command.
  const imports = kinds
    .filter(({ kind }) => kind === 'resources')
    .map(({ name }) => {
      const command = readFileSync(`${examples}/resources/${name}/import.sh`, 'utf8').trim();
      const [, local = '', given = ''] = /^terraform import (\S+) (\S+)$/.exec(command) ?? [];
      const address = `module.resources_${name}.${local}`;
      // An example id stands for that of the object.
      const own = state.find((each) => each.address === address)?.values.id;
      return { address, id: given.endsWith('-0123456789abcdef') ? String(own) : given };
    });
  const addresses = imports.map(({ address }) => address);
  await directory.run('state', 'rm', ...addresses);
  for (const { address, id } of imports) await directory.run('import', '-no-color', address, id);
  const settings = (await directory.pending()).filter((change) => !change.endsWith(': update'));
  t.strictSame(settings, [], 'what the commands import is as declared, but for what only Terraform knows');
  await directory.run('state', 'rm', ...addresses);
  directory.write({
    'imports.tf': imports.map(({ address, id }) => `import {\n  to = ${address}\n  id = "${id}"\n}\n`).join(''),
  });
  t.match(
    await directory.apply(),
    new RegExp(`Resources: ${imports.length} imported, 0 added, \\d changed, 0 destroyed`),
  );
  t.strictSame(await directory.pending(), [], 'what the blocks import, too');
  await directory.destroy();
});

const requirement = `terraform {
  required_providers {
    ucloud = {
      source = "ucloud.localhost/ucloud/ucloud"
    }
  }
}
`;
