/** The provider block; lists of objects; and tokens for one run. */
import type { ServerResponse } from 'node:http';
import t from 'tap';
import { asked, providerBlock, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { answerProblem, type GatewayRequest, type RequestOutcome, startGateway } from '../support/gateway.ts';
import { imageAndNetwork, vmBlock } from '../support/hcl.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t);
});

const prerequisites = imageAndNetwork({});
const vms = (count: number) =>
  vmBlock(
    'this',
    `count = ${count}\n labels = { parity = count.index % 2 == 0 ? "even" : "odd" }`,
    `"vm-\${count.index}"`,
  );

t.test('max_retries and request_timeout, in the provider block and in the environment', { skip }, async (t) => {
  let attempts = 0;
  const decide = ({ path }: GatewayRequest, response: ServerResponse): RequestOutcome => {
    attempts++;
    return path.includes('/v1/networks') ? 'handled' : answerProblem(response, 503, 'store_unavailable');
  };
  const { url: endpoint } = await startGateway(cloud.api.url, { decide }, t);
  const data = (noun: string) => `data "ucloud_${noun}" "x" {\n  name = "x"\n}`;
  const told = async (main: string, settings = '') => {
    attempts = 0;
    const block = `provider "ucloud" {\n  endpoint = "${endpoint}"\n  project = "${cloud.project}"\n${settings}\n}`;
    const directory = cloud.terraform(t, {
      'provider.tf': providerBlock.replace('provider "ucloud" {}', block),
      'main.tf': main,
    });
    return directory.diagnostics('plan');
  };
  t.match(await told(data('prefix'), 'max_retries = 0'), [{ summary: 'Prefix cannot be read: store_unavailable' }]);
  t.equal(attempts, 1);
  t.match(await told(data('network'), 'max_retries = 1\n request_timeout = "200ms"'), [
    {
      summary: 'Network cannot be read: the API cannot be reached',
      detail: /it took the request and did not answer in time/,
    },
  ]);
  t.equal(attempts, 2);

  asked(t, { UCLOUD_MAX_RETRIES: '2', UCLOUD_REQUEST_TIMEOUT: '100ms' });
  await told(data('network'));
  t.equal(attempts, 3, 'from the environment');
  await told(data('network'), 'max_retries = 0');
  t.equal(attempts, 1, 'the provider block comes first');
  asked(t, { UCLOUD_MAX_RETRIES: 'many' });
  t.match(await told(data('network')), [
    { summary: 'UCLOUD_MAX_RETRIES cannot be used', detail: 'Must be a whole number, not "many".' },
  ]);
  asked(t, { UCLOUD_MAX_RETRIES: undefined, UCLOUD_REQUEST_TIMEOUT: 'soon' });
  t.match(await told(data('network')), [
    {
      summary: 'UCLOUD_REQUEST_TIMEOUT cannot be used',
      detail: 'Must be a time such as `10s` or `1m30s`, not "soon".',
    },
  ]);
  t.match(await told(data('network'), 'max_retries = 1.5\n request_timeout = "1 minute"'), [
    { summary: 'Invalid value for "max_retries"', detail: 'Must be a whole number from 0 to 100, not 1.5.' },
    {
      summary: 'Invalid value for "request_timeout"',
      detail: 'Must be a time such as `10s` or `1m30s`, not "1 minute".',
    },
  ]);
});

t.test('a provider block that is known only after apply', { skip }, async (t) => {
  const directory = cloud.terraform(t, {
    'provider.tf': providerBlock.replace(
      'provider "ucloud" {}',
      `
resource "terraform_data" "cloud" {
  input = "${cloud.api.url}"
}
provider "ucloud" {
  endpoint = terraform_data.cloud.output
}`,
    ),
    'main.tf': 'resource "ucloud_prefix" "this" {\n  name = "later"\n}',
  });
  t.strictSame((await directory.pending()).toSorted(), ['terraform_data.cloud: create', 'ucloud_prefix.this: create']);
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  t.match((await cloud.member.list('prefixes', '?name=later')).items, [{ project: cloud.project }]);
  await directory.destroy();
});

t.test('lists by label selector, name and project', { skip }, async (t) => {
  const lists = `
data "ucloud_vms" "even" {
  selector   = "parity=even"
  depends_on = [ucloud_vm.this]
}
data "ucloud_vms" "named" {
  name       = "vm-1"
  depends_on = [ucloud_vm.this]
}
data "ucloud_vms" "none" {
  selector   = "parity in (neither)"
  depends_on = [ucloud_vm.this]
}
data "ucloud_images" "public" {}
data "ucloud_images" "own" {
  project = "${cloud.project}"
}
output "even" {
  value = { for vm in data.ucloud_vms.even.vms : vm.name => vm.address }
}
output "counts" {
  value = [length(data.ucloud_vms.named.ids), length(data.ucloud_vms.none.vms), length(data.ucloud_images.own.ids)]
}
output "public" {
  value = data.ucloud_images.public.images[*].name
}`;
  const directory = cloud.configuration(t, prerequisites + vms(4) + lists);
  await directory.apply();
  const even = (await cloud.member.list('vms', '?selector=parity%3Deven')).items;
  t.strictSame(await directory.outputs(), {
    even: Object.fromEntries(even.map(({ name, address }) => [name, address])),
    counts: [1, 0, 0],
    public: ['demo'],
  });
  t.strictSame(await directory.pending(), []);
  await directory.destroy();

  await t.test('in pages, ordered by name', async (t) => {
    const { id } = await cloud.api.operator.create('projects', { name: 'pages' });
    const names = Array.from({ length: 1003 }, (_, i) => `key-${String(i).padStart(4, '0')}`);
    for (let start = 0; start < names.length; start += 100) {
      await Promise.all(
        names
          .slice(start, start + 100)
          .map((name) => cloud.api.operator.create('ssh-keys', { name, project: id, public_key: testPublicKey })),
      );
    }
    const pages = cloud.terraform(t, {
      'provider.tf': providerBlock.replace(
        'provider "ucloud" {}',
        `provider "ucloud" {\n  token = "${cloud.api.operatorToken}"\n}`,
      ),
      'main.tf': `data "ucloud_ssh_keys" "all" {\n project = "${id}"\n}\noutput "names" {\n value = data.ucloud_ssh_keys.all.ssh_keys[*].name\n}`,
    });
    await pages.apply();
    t.strictSame((await pages.outputs()).names, names);
  });

  await t.test('a selector that is none is told at its attribute', async (t) => {
    const wrong = cloud.configuration(t, 'data "ucloud_vms" "x" {\n  selector = "tier in web"\n}');
    t.match(await wrong.diagnostics('plan'), [
      {
        severity: 'error',
        summary: 'VMs cannot be listed: the request breaks a rule of the API',
        detail: /^`selector` "tier in web" is not a requirement such as/,
        code: 'selector = "tier in web"',
      },
    ]);
  });
});

t.test('a token for one run: usable meanwhile, revoked at its end, in no state', { skip }, async (t) => {
  const seen: string[] = [];
  const decide = ({ method, path }: GatewayRequest): RequestOutcome => {
    if (path.startsWith('/v1/tokens')) seen.push(`${method} ${path.replace(/tok-.*/, '{id}')}`);
    return 'pass';
  };
  const { url: endpoint } = await startGateway(cloud.api.url, { decide }, t);
  const directory = cloud.terraform(t, {
    'provider.tf': providerBlock.replace('provider "ucloud" {}', `provider "ucloud" {\n  endpoint = "${endpoint}"\n}`),
    'main.tf': `
ephemeral "ucloud_token" "run" {
  lifetime = "10m"
}
provider "ucloud" {
  alias = "run"
  token = ephemeral.ucloud_token.run.secret
}
resource "ucloud_prefix" "this" {
  provider = ucloud.run
  name     = "by-token"
}`,
  });
  const before = (await cloud.member.list('tokens')).items.length;
  await directory.apply();
  t.match(
    (await directory.state()).map(({ values }) => values.name),
    ['by-token'],
  );
  t.equal((await cloud.member.list('tokens')).items.length, before, 'nothing is left of it');
  t.strictSame(
    seen.toSorted(),
    ['DELETE /v1/tokens/{id}', 'DELETE /v1/tokens/{id}', 'POST /v1/tokens', 'POST /v1/tokens'],
    'one for the plan, one for the apply',
  );
  const state = JSON.parse(await directory.run('state', 'pull')) as { resources: { type: string }[] };
  t.strictSame(
    state.resources.map(({ type }) => type),
    ['ucloud_prefix'],
  );
  t.notMatch(JSON.stringify(state), /ucloud_[0-9a-z]{16}_[0-9a-f]{64}/, 'no secret is in the state');
  await directory.destroy();

  const wrong = cloud.configuration(
    t,
    'ephemeral "ucloud_token" "x" {\n  role = "root"\n  lifetime = "for ever"\n  name = "Über"\n}',
  );
  t.strictSame((await wrong.diagnostics('validate')).map(({ summary }) => summary).toSorted(), [
    'Invalid value for "lifetime"',
    'Invalid value for "name"',
    'Invalid value for "role"',
  ]);
});
