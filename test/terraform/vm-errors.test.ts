/** The errors that users of VMs see: each names the wrong attribute and the remedy. */
import type { ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { asked, GiB, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { answerProblem, type GatewayRequest, type RequestOutcome, startGateway } from '../support/gateway.ts';
import { imageAndNetwork, vmBlock as vm } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

const prerequisites = imageAndNetwork({ network: 'web', cidr: '2001:0DB8:0:ab00::/56' });

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t, { capacity: { cpus: 8, memory: 16 * GiB, disk: 1000 * GiB } });
});

t.test('errors point to the attribute at fault', { skip }, async (t) => {
  const told = async (t: Test, command: 'validate' | 'plan' | 'apply', main: string) =>
    (await cloud.configuration(t, main).diagnostics(command)).toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));

  await t.test('while validating', async (t) => {
    const diagnostics = await told(
      t,
      'validate',
      `
resource "ucloud_vm" "v" {
  name       = "Web 1"
  image      = "demo"
  memory     = "2GB"
  cpus       = 1000
  interfaces = [{ network = "web", mac = "01:02:03:04:05:06" }]
  labels     = {
    "a b" = "c"
    tier  = "-"
    owner = null
  }
  ssh_keys   = ["alice", "bob"]
  power_state = "on"
  wait_for    = "never"
}
resource "terraform_data" "later" {}
resource "ucloud_network" "n" {
  name        = "n"
  prefix      = "pfx-0123456789abcdef"
  cidr        = "2001:db8::1/64"
  mtu         = 100
  labels      = { owner = terraform_data.later.id, tier = "-" }
  dns_servers = ["2001:db8::53", "2001:DB8:0::53"]
}
resource "ucloud_prefix" "p" {
  name   = "p"
  cidr   = "2001:db8::/56"
  length = 57
}`,
    );
    t.strictSame(
      diagnostics.map(({ code, summary, detail }) => [code?.split(' ')[0], summary, detail]),
      [
        [
          'name',
          'Invalid value for "name"',
          'Must be 1 to 63 lower-case letters, digits and inner hyphens, not "Web 1".',
        ],
        [
          'image',
          'Invalid value for "image"',
          'Must be the id of an image (`img-…`), such as `ucloud_image.example.id`, not "demo".',
        ],
        [
          'memory',
          'Invalid value for "memory"',
          'Must be a whole number with its unit, MiB, GiB or TiB, such as `512MiB` or `2GiB`, at most 512TiB, not "2GB".',
        ],
        ['cpus', 'Invalid value for "cpus"', 'Must be between 1 and 256, not 1000.'],
        [
          'interfaces',
          'Invalid value for "interfaces[0].network"',
          'Must be the id of a network (`net-…`), such as `ucloud_network.example.id`, not "web".',
        ],
        [
          'interfaces',
          'Invalid value for "interfaces[0].mac"',
          '"01:02:03:04:05:06" is not unicast and locally administered: the second digit must be 2, 6, a or e.',
        ],
        [
          '"a',
          'Invalid value for "labels["a b"]"',
          'Key: Must be 1 to 63 letters, digits and inner `-`, `_` or `.`, optionally after a DNS name and a slash (`example.net/team`), not "a b".',
        ],
        [
          'tier',
          'Invalid value for "labels.tier"',
          'Must be at most 63 letters, digits and inner `-`, `_` or `.`, not "-".',
        ],
        ['owner', 'Invalid value for "labels.owner"', 'The value is null.'],
        ...['alice', 'bob'].map((name) => [
          'ssh_keys',
          'Invalid value for "ssh_keys"',
          `Must be the id of an SSH key (\`key-…\`), such as \`ucloud_ssh_key.example.id\`, not "${name}".`,
        ]),
        ['power_state', 'Invalid value for "power_state"', 'Must be one of "running", "stopped", not "on".'],
        ['wait_for', 'Invalid value for "wait_for"', 'Must be one of "running", "ready", "none", not "never".'],
        ['cidr', 'Invalid value for "cidr"', '"2001:db8::1/64" has bits set after /64: the prefix is 2001:db8::/64.'],
        ['mtu', 'Invalid value for "mtu"', 'Must be between 1280 and 9000, not 100.'],
        [
          'labels',
          'Invalid value for "labels.tier"',
          'Must be at most 63 letters, digits and inner `-`, `_` or `.`, not "-".',
        ],
        ['dns_servers', 'Invalid value for "dns_servers[1]"', 'Is the same as element 0.'],
        ['length', 'The length contradicts the cidr', '`cidr` is a /56. Set `length = 56`, or remove `length`.'],
      ],
    );
  });

  await t.test('while planning', async (t) => {
    const prefix = await cloud.member.create('prefixes', { name: 'p', length: 60 });
    const diagnostics = await told(
      t,
      'plan',
      `
resource "ucloud_vm" "v" {
  name       = "v"
  image      = "img-0123456789abcdef"
  interfaces = [{ network = "net-0123456789abcdef" }]
}
resource "ucloud_network" "outside" {
  name   = "outside"
  prefix = "${prefix.id}"
  cidr   = "2001:db8:fff:ffff::/64"
}
resource "ucloud_network" "nowhere" {
  name   = "nowhere"
  prefix = "pfx-0123456789abcdef"
}`,
    );
    t.match(diagnostics, [
      { summary: 'There is no image img-0123456789abcdef', line: 4 },
      {
        summary: 'There is no network net-0123456789abcdef',
        line: 5,
        detail: 'It does not exist, or the token of the provider may not see it.',
      },
      {
        summary: 'The network is outside its prefix',
        line: 10,
        detail: `2001:db8:fff:ffff::/64 is not inside ${prefix.cidr}.`,
      },
      { summary: 'There is no prefix pfx-0123456789abcdef', line: 14 },
    ]);
    await cloud.member.remove('prefixes', prefix.id);
  });

  await t.test('while applying', async (t) => {
    const directory = cloud.configuration(t, prerequisites + vm('web'));
    await directory.apply();
    const other = cloud.configuration(
      t,
      `
resource "ucloud_prefix" "same_name" {
  name = "site"
}
resource "ucloud_prefix" "same_space" {
  name = "other"
  cidr = "2001:db8:0:ab00::/60"
}
`,
    );
    const diagnostics = (await other.diagnostics('apply')).toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
    t.match(diagnostics, [
      { summary: 'Prefix "site" was not created: the name is taken', code: 'name = "site"' },
      { summary: 'Prefix "other" was not created: the address is taken', code: /^cidr/ },
    ]);
    t.strictSame(await other.state(), [], 'nothing was made');

    await t.test('what is in use, and what is protected, stays', async (t) => {
      const network = (await directory.resource('ucloud_network.this')).values;
      await directory.run('state', 'rm', 'ucloud_vm.web');
      directory.write({ 'main.tf': prerequisites });
      const [inUse] = await directory.diagnostics('destroy');
      t.match(inUse, { severity: 'error', summary: 'Network "web" was not deleted: something still uses this' });
      t.match(inUse?.detail, /^net-.* VM web \(vm-.*\)\.\n\nDelete or change the objects above first\.$/i);
      t.equal((await directory.resource('ucloud_network.this')).values.id, network.id);

      directory.write({ 'main.tf': `${prerequisites}${vm('web', 'delete_protection = true')}` });
      await directory.run('import', 'ucloud_vm.web', ' web\n');
      await directory.apply();
      const protectedOne = await directory.diagnostics('destroy');
      t.match(protectedOne, [{ summary: 'VM "web" is protected from deletion' }]);
      directory.write({ 'main.tf': `${prerequisites}${vm('web')}` });
      await directory.apply();
    });
    await directory.destroy();
  });
});

t.test('without endpoint, token or project, it says how to give them', { skip }, async (t) => {
  const main = 'resource "ucloud_prefix" "p" {\n  name = "p"\n}';
  const told = async (t: Test) => (await cloud.configuration(t, main).diagnostics('plan'))[0];

  asked(t, { UCLOUD_TOKEN: undefined });
  t.match(await told(t), {
    summary: 'No token is configured',
    detail: /^Set UCLOUD_TOKEN, or `token` in the provider block, or run `ucloud login`, which writes .*\.$/,
  });
  asked(t, { UCLOUD_ENDPOINT: undefined });
  t.match(await told(t), { summary: 'No endpoint is configured' });
  asked(t, { UCLOUD_ENDPOINT: cloud.api.url, UCLOUD_TOKEN: 'wrong' });
  t.match(await told(t), { summary: /no valid token/i });
  asked(t, { UCLOUD_TOKEN: cloud.api.operatorToken });
  t.match(await told(t), {
    summary: 'A project is needed',
    detail:
      'The token of the provider has no project. Set `project` here, or in the provider block, or UCLOUD_PROJECT.',
  });
  asked(t, { UCLOUD_ENDPOINT: 'http://[::1]:1' });
  const started = performance.now();
  t.match(await told(t), {
    summary: /the API cannot be reached/,
    detail:
      /^http:\/\/\[::1\]:1: nothing listens there .ECONNREFUSED..\n\nCheck `endpoint`, and that the API is running\.$/,
  });
  t.ok(performance.now() - started > 1000, 'it has tried more than once');
});

t.test('a token that expires while a VM is waited for leaves the VM in the state, not tainted', { skip }, async (t) => {
  let expired = false;
  const decide = ({ method, path }: GatewayRequest, response: ServerResponse): RequestOutcome => {
    if (method === 'GET' && path.includes('/v1/vms?') && path.includes('after=')) expired = true;
    return expired ? answerProblem(response, 401, 'unauthenticated') : 'pass';
  };
  asked(t, { UCLOUD_ENDPOINT: (await startGateway(cloud.api.url, { decide }, t)).url });
  const directory = cloud.configuration(t, `${prerequisites}${vm('late')}`);
  await directory.apply('-target=ucloud_network.this', '-target=data.ucloud_image.demo');
  const told = await directory.diagnostics('apply');
  const [warning] = told.filter(({ severity }) => severity === 'warning');
  t.match(warning, { summary: /^VM "late" .*as far as is known: unauthenticated/, address: 'ucloud_vm.late' });
  t.match(warning?.detail, /The object exists and the state contains it\. The next apply continues\.$/);
  t.strictSame(
    told.filter(({ severity }) => severity === 'error'),
    [],
  );
  const { tainted, values } = await directory.resource('ucloud_vm.late');
  t.notOk(tainted, 'it is not tainted');
  t.match(values.id, /^vm-/);

  expired = false;
  asked(t, { UCLOUD_ENDPOINT: cloud.api.url });
  t.strictSame(await directory.pending(), [], 'with a token that is valid, nothing is left to do');
  t.equal((await directory.resource('ucloud_vm.late')).values.id, values.id);
  await directory.destroy();
});
