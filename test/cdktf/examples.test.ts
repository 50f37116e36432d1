/**
 * The apps in cdk-examples/. The test synthesizes each app by the command in its comment, and deploys it on a simulated cloud
 * with Terraform, and one also with `cdktf deploy`. After each apply, the plan is empty. A destroy removes everything.
 */
import { execFile, execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { contains, formatPrefix, parsePrefix, subnet } from '../../provider/net/ipv6.ts';
import { provider } from '../../provider/provider.ts';
import { schemaJson } from '../../scripts/generate/schema-json.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { guideBlocks } from '../support/guide.ts';
import { exemption } from '../support/pages.ts';
import { testPublicKey as publicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { type TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const exec = promisify(execFile);
const key = `-var=public_key=${publicKey}`;

/** Terraform uses the running provider of this process. */
const noInstallation = 'provider_installation {\n  filesystem_mirror { path = "/nonexistent" }\n}\n';

const cdktf = resolve('cdk-examples/cli/node_modules/.bin/cdktf');
function cdktfMissing(): string | undefined {
  if (existsSync(cdktf)) return undefined;
  if (process.env.CI === 'true') throw new Error('cdktf-cli is not installed, and CI=true allows no skips');
  return 'SKIPPED: cdktf-cli is not installed (npm ci --ignore-scripts --prefix cdk-examples/cli)';
}

const main = (example: string) => resolve('cdk-examples', example, 'main.ts');
const examples = readdirSync('cdk-examples').filter((name) => existsSync(main(name)));

/** Runs an app in the directory in which Terraform deploys its stack. The state is in the same directory. */
function synthesize(directory: TerraformDirectory, file: string, stack: string): void {
  execFileSync(process.execPath, [file], { cwd: directory.path, stdio: 'pipe' });
  const json = readFileSync(join(directory.path, 'cdktf.out/stacks', stack, 'cdk.tf.json'), 'utf8');
  directory.write({ 'cdk.tf.json': json });
}

/** Writes a file to a folder that git ignores. The folder is in the package whose imports the file uses. */
function beside(t: Test, folder: string, content: string): string {
  mkdirSync(join(folder, 'cdktf.out'), { recursive: true });
  const own = mkdtempSync(resolve(folder, 'cdktf.out/test-'));
  t.teardown(() => rmSync(own, { recursive: true }));
  const file = join(own, 'main.ts');
  writeFileSync(file, content);
  return file;
}

async function initialized(t: Test, cloud: TestCloud, example: string): Promise<TerraformDirectory> {
  const directory = cloud.terraform(t, { 'provider.tf': '' });
  synthesize(directory, main(example), example);
  await directory.run('init', '-no-color');
  return directory;
}

async function remaining(cloud: TestCloud): Promise<string[]> {
  const nouns = ['vms', 'networks', 'prefixes', 'ssh-keys'] as const;
  const lists = await Promise.all(nouns.map((noun) => cloud.member.list(noun)));
  return lists.flatMap(({ items }, index) => items.map(({ name }) => `${nouns[index]}/${name}`));
}

/** Returns the /64 of a prefix with this number. */
function piece(cidr: string, length: number, index: bigint): string {
  const prefix = parsePrefix(cidr);
  const found = prefix && subnet(prefix, length, index);
  return found ? formatPrefix(found) : `no /${length} number ${index} in ${cidr}`;
}

t.test('every example is tested here', async (t) => {
  t.strictSame(examples.toSorted(), ['prefix-delegation', 'quickstart', 'rolling-update', 'three-tier']);
});

t.test('on a cloud', { skip: terraformMissing() ?? false }, async (t) => {
  const cloud = await startTestCloud(t, { moreHosts: 2 });

  await t.test('three-tier', async (t) => {
    const directory = await initialized(t, cloud, 'three-tier');

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
    const { addresses, hosts } = (await directory.outputs()) as Record<string, Record<string, string>>;
    const vms = (await cloud.member.list('vms')).items;
    t.strictSame(
      addresses,
      Object.fromEntries(vms.map((vm) => [vm.name, vm.address])),
      'each VM has the address that it says',
    );
    t.strictSame(Object.keys(addresses ?? {}).toSorted(), ['app-1', 'app-2', 'db', 'web-1', 'web-2']);
    t.strictSame(
      hosts,
      Object.fromEntries(vms.filter((vm) => vm.name !== 'db').map((vm) => [vm.name, vm.status.host])),
    );
    t.not(hosts?.['web-1'], hosts?.['web-2'], 'no host has two of the web servers');
    const [prefix] = (await cloud.member.list('prefixes')).items;
    const cidrs = Object.fromEntries((await cloud.member.list('networks')).items.map((each) => [each.name, each.cidr]));
    t.strictSame(
      cidrs,
      {
        web: piece(String(prefix?.cidr), 64, 0n),
        app: piece(String(prefix?.cidr), 64, 1n),
        db: piece(String(prefix?.cidr), 64, 2n),
      },
      'tiers lie in the site in the order of the plan',
    );
    t.strictSame(await directory.pending(key), []);

    await t.test('means the same in HCL', async (t) => {
      execFileSync(process.execPath, [main('three-tier')], {
        cwd: directory.path,
        env: { ...process.env, SYNTH_HCL_OUTPUT: 'true' },
        stdio: 'pipe',
      });
      const hcl = readFileSync(join(directory.path, 'cdktf.out/stacks/three-tier/cdk.tf'), 'utf8');
      rmSync(join(directory.path, 'cdk.tf.json'));
      directory.write({ 'cdk.tf': hcl });
      // In HCL, cdktf adds a line break to texts of several lines, such as the user data here.
      const others = (await directory.pending(key)).filter((change) => !/application_vm|output\.hosts/.test(change));
      t.strictSame(others, []);
      rmSync(join(directory.path, 'cdk.tf'));
    });

    await t.test('grows and shrinks without touching what stays', async (t) => {
      const app = readFileSync(main('three-tier'), 'utf8');
      const changed = app
        .replace("subnets: ['web', 'app', 'db']", "subnets: ['web', 'app', 'db', 'cache']")
        .replace('{ web: 2, app: 2 }', '{ web: 3, app: 1 }');
      t.not(changed, app);
      synthesize(directory, beside(t, 'cdk-examples/three-tier', changed), 'three-tier');
      const pending = (await directory.pending(key)).filter((change) => !change.startsWith('output.'));
      t.equal(pending.length, 2, pending.join('\n'));
      t.match(pending.toSorted(), [
        /^ucloud_vm\.application_vm_2_\w+: delete$/,
        /^ucloud_vm\.frontend_vm_3_\w+: create$/,
      ]);
      await directory.apply(key);
      t.strictSame(await directory.pending(key), []);
    });

    await directory.destroy(key);
    t.strictSame(await remaining(cloud), []);
  });

  await t.test('prefix-delegation', async (t) => {
    const directory = await initialized(t, cloud, 'prefix-delegation');
    await directory.apply();
    const { company_cidr: company, cidrs } = (await directory.outputs()) as {
      company_cidr: string;
      cidrs: Record<string, Record<string, string>>;
    };
    const [sales, research] = [piece(company, 56, 0n), piece(company, 56, 2n)];
    t.strictSame(cidrs, {
      sales: { shop: piece(sales, 64, 0n), office: piece(sales, 64, 1n) },
      research: { lab: piece(research, 64, 0n), office: piece(research, 64, 1n), guests: piece(research, 64, 2n) },
    });
    const space = parsePrefix(company);
    const vms = (await cloud.member.list('vms')).items;
    t.equal(vms.length, 5);
    for (const { name, address } of vms) {
      const at = parsePrefix(`${address}/128`);
      t.ok(space && at && contains(space, at), `${name} at ${address} is in ${company}`);
    }
    t.strictSame(await directory.pending(), []);
    await directory.destroy();
    t.strictSame(await remaining(cloud), []);
  });

  await t.test('quickstart, by cdktf deploy', { skip: cdktfMissing() ?? false }, async (t) => {
    const work = temporaryDirectory(t);
    copyFileSync('cdk-examples/quickstart/cdktf.json', join(work, 'cdktf.json'));
    writeFileSync(join(work, 'terraformrc'), noInstallation);
    const environment = {
      PATH: process.env.PATH,
      HOME: work,
      CHECKPOINT_DISABLE: '1',
      CI: 'true',
      TF_CLI_CONFIG_FILE: join(work, 'terraformrc'),
      TF_REATTACH_PROVIDERS: cloud.reattach,
    };
    const run = (command: string, ...args: string[]) =>
      exec(cdktf, [command, '--app', `${process.execPath} ${main('quickstart')}`, ...args], {
        cwd: work,
        env: environment,
        timeout: 120_000,
      });
    const variable = `--var=public_key=${publicKey}`;
    const deploy = ['--auto-approve', '--skip-provider-lock', variable];
    await run('deploy', ...deploy, '--outputs-file', 'outputs.json');
    const { quickstart } = JSON.parse(readFileSync(join(work, 'outputs.json'), 'utf8')) as {
      quickstart: { addresses: Record<string, string> };
    };
    const vms = (await cloud.member.list('vms')).items;
    t.strictSame(quickstart.addresses, Object.fromEntries(vms.map((vm) => [vm.name, vm.address])));
    t.strictSame(Object.keys(quickstart.addresses).toSorted(), ['db', 'web']);
    const { stdout } = await run('diff', '--skip-synth', '--skip-provider-lock', variable);
    t.match(stdout, /No changes\./);
    await run('destroy', '--skip-synth', ...deploy);
    t.strictSame(await remaining(cloud), []);
  });

  await t.test('quickstart and rolling-update, as cdk-examples/README.md says', async (t) => {
    const page = 'cdk-examples/README.md';
    const [apply = '', destroy = '', rolling = '', ...more] = guideBlocks(readFileSync(page, 'utf8'))
      .filter((block) => block.language === 'sh' && exemption(page, block) === undefined)
      .map(({ text }) => text);
    t.strictSame(more, []);
    // Apps write to their working directory.
    const work = temporaryDirectory(t);
    for (const example of ['quickstart', 'rolling-update']) {
      mkdirSync(join(work, example));
      symlinkSync(main(example), join(work, example, 'main.ts'));
    }
    mkdirSync(join(work, '.ssh'));
    writeFileSync(join(work, '.ssh/id_ed25519.pub'), `${publicKey} alice@example\n`);
    writeFileSync(join(work, 'terraformrc'), noInstallation);
    const shell = async (script: string) => {
      const environment = {
        PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
        HOME: work,
        UCLOUD_ENDPOINT: cloud.api.url,
        UCLOUD_TOKEN: cloud.member.token,
        CHECKPOINT_DISABLE: '1',
        TF_CLI_CONFIG_FILE: join(work, 'terraformrc'),
        TF_CLI_ARGS: '-no-color',
        TF_CLI_ARGS_apply: '-auto-approve',
        TF_CLI_ARGS_destroy: '-auto-approve',
        TF_INPUT: '0',
        TF_REATTACH_PROVIDERS: cloud.reattach,
      };
      return (await exec('sh', ['-euc', script], { cwd: work, env: environment })).stdout;
    };
    interface Server {
      readonly name: string;
      readonly user_data: string;
      readonly status: { readonly pending_changes: readonly string[] };
    }
    const planned = /No changes\./;
    const vms = async () => (await cloud.member.list('vms')).items;

    const stdout = await shell(apply);
    const ofQuickstart = await vms();
    t.strictSame(ofQuickstart.map(({ name }) => name).toSorted(), ['db', 'web']);
    for (const { address } of ofQuickstart) t.match(stdout, `= "${address}"`);
    const again = apply.replace(' apply ', ' plan ').replace(/^.* output .*$/m, '');
    t.match(await shell(again), planned, 'a second plan is empty');
    await shell(destroy);
    t.strictSame(await remaining(cloud), []);

    await shell(rolling);
    const servers = await vms();
    t.strictSame(servers.map(({ name }) => name).toSorted(), ['server-a', 'server-b', 'server-c']);
    t.equal(new Set(servers.map(({ status }) => status.host)).size, 3, 'each on a host of its own');
    for (const { id } of servers) {
      // Lists do not contain user data.
      const one = await cloud.member.get('vms', String(id));
      const { name, user_data: data, status } = one as unknown as Server;
      t.match(data, /RELEASE=2/, `${name} has the second release`);
      t.strictSame(status.pending_changes, [], `${name} was restarted with it`);
    }
    interface Operation {
      readonly target: string;
      readonly created_at: string;
      readonly finished_at: string;
    }
    const reboots = ((await cloud.member.list('operations')).items as unknown as Operation[])
      .filter(({ target }) => servers.some(({ id }) => id === target))
      .toSorted((one, other) => (one.created_at < other.created_at ? -1 : 1));
    const restarted = reboots.map(({ target }) => servers.find(({ id }) => id === target)?.name);
    t.strictSame([...new Set(restarted)], ['server-a', 'server-b', 'server-c'], 'one after the other');
    for (const [index, { created_at: begun }] of reboots.entries()) {
      const { finished_at: ended } = reboots[index - 1] ?? { finished_at: '' };
      t.ok(ended <= begun, `${ended}, ${begun}`);
    }
    const [state] = (await cloud.member.list('terraform-states')).items;
    t.match(state, { name: 'rolling-update' });
    const plan = rolling.replace(/^.*release=1\n/m, '').replace(' apply ', ' plan ');
    t.match(await shell(plan), planned);
    await shell(plan.replace(' plan ', ' destroy '));
    t.strictSame(await remaining(cloud), []);
  });

  await t.test('keys go and change while their VMs stay', async (t) => {
    const directory = cloud.terraform(t, { 'provider.tf': '' });
    const bob = `${publicKey} bob`;
    const letIn = (keys: string) => {
      const app = readFileSync(main('quickstart'), 'utf8')
        .replaceAll('quickstart', 'keys')
        .replace('publicKeys: [key.stringValue]', `publicKeys: [${keys}]`);
      synthesize(directory, beside(t, 'cdk-examples/quickstart', app), 'keys');
    };
    letIn(`'${bob}', key.stringValue`);
    await directory.run('init', '-no-color');
    await directory.apply(key);
    const ids = async () => (await cloud.member.list('vms')).items.map(({ id }) => id);
    const before = await ids();

    letIn('key.stringValue');
    const updates = ['ucloud_vm.db: update', 'ucloud_vm.web: update'];
    t.match((await directory.pending(key)).toSorted(), [/^ucloud_ssh_key\.web_key-\w+: delete$/, ...updates]);
    await directory.apply(key);
    const changed = `${key} alice`;
    t.match(await directory.pending(changed), [/^ucloud_ssh_key\.web_key-\w+: update$/], 'in place');
    await directory.apply(changed);
    t.match((await cloud.member.list('ssh-keys')).items, [{ public_key: `${publicKey} alice` }]);
    t.strictSame(await directory.pending(changed), []);
    t.strictSame(await ids(), before);
    await directory.destroy(changed);
    t.strictSame(await remaining(cloud), []);
  });

  await t.test('the example of provider/constructs/README.md works', async (t) => {
    const readme = readFileSync('provider/constructs/README.md', 'utf8');
    const apps = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, text = '']) => text);
    const outputs: Record<string, Record<string, unknown>> = {};
    for (const app of apps) {
      const [, stack = ''] = app.match(/Stack\(app, '(\w+)'\)/) ?? [];
      const directory = cloud.terraform(t, { 'provider.tf': '' });
      synthesize(directory, beside(t, 'provider/constructs', app), stack);
      await directory.run('init', '-no-color');
      await directory.apply();
      outputs[stack] = await directory.outputs();
      t.strictSame(await directory.pending(), [], `${stack}: a second plan is empty`);
      if (stack === 'plan') {
        const [site] = (await cloud.member.list('prefixes')).items;
        const networks = (await cloud.member.list('networks')).items.map(({ name, cidr }) => [name, cidr]);
        const places = { web: 0n, db: 2n, bob: 17n };
        t.strictSame(
          Object.fromEntries(networks),
          Object.fromEntries(Object.entries(places).map(([name, at]) => [name, piece(String(site?.cidr), 64, at)])),
          'the numbers that it names are right',
        );
      }
      await directory.destroy();
      t.strictSame(await remaining(cloud), [], stack);
    }
    t.strictSame(Object.keys(outputs), ['first', 'plan', 'groups', 'each', 'functions', 'terrain']);
    const images = (await cloud.member.list('images')).items.map(({ id }) => id);
    t.match(outputs.each, { addresses: [/^2001:db8:/, /^2001:db8:/], test_address: /^2001:db8:/ });
    t.match(outputs.functions, { third: '2001:db8:0:2::/64', image_ids: images, address: /:4000:5eff:fe10:1$/ });
    t.match(outputs.functions?.name, /^1\.0\.0\.0\.0\.1\.e\.f\.f\.f\.e\.5\.0\.0\.0\.4\..*\.ip6\.arpa$/);
    t.match(outputs.terrain, { name: /\.ip6\.arpa$/, image_ids: images });
    t.strictSame(
      (await cloud.member.list('tokens')).items.filter(({ name }) => name.startsWith('terraform-')),
      [],
    );
    t.strictSame(Object.keys(outputs.groups?.addresses ?? {}), ['db-primary', 'db-replica', 'web-1', 'web-2', 'web-3']);
  });
});
