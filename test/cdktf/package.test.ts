/**
 * The npm package of the constructs in an app outside of this repository. The test packs and installs it, checks the types
 * with each configuration of apps, loads it as CommonJS and as an ES module, and deploys the app.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { packageConstructs } from '../../provider/packaging/constructs.ts';
import { startTestCloud } from '../support/cloud.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const exec = promisify(execFile);
const require = createRequire(import.meta.url);
const app = `
const app = new App();
const stack = new TerraformStack(app, 'outside');
new UcloudProvider(stack, 'ucloud');
const site = new PrefixPlan(stack, 'site', { subnets: ['lan'] });
const network = new Network(stack, 'lan', { subnet: site.subnet('lan') });
const web = new VmGroup(stack, 'web', { image: 'demo', count: 2, network });
const db = new VirtualMachine(stack, 'db', { image: 'demo', network });
new TerraformOutput(stack, 'addresses', { value: { ...web.addresses, db: db.address } });
app.synth();
`;
const names = 'Network, PrefixPlan, UcloudProvider, VirtualMachine, VmGroup';
const imported = (library: string, from: string) =>
  `import { App, TerraformOutput, TerraformStack } from '${library}';\nimport { ${names} } from '${from}';\n${app}`;

/** Code that a compiler must refuse. The line after each comment is an error; otherwise, the comment itself is one. */
const wrong = `
import { bindings, Network, PrefixPlan, UcloudProvider, VirtualMachine, VmGroup } from '@ucloud/provider/constructs';
import { TerraformStack } from 'cdktf';
export function misuse(stack: TerraformStack): void {
  const plan = new PrefixPlan(stack, 'p', { subnets: ['a'] });
  const subnet = plan.subnet('a');
  // @ts-expect-error a root volume is something with an id
  new VirtualMachine(stack, 'a', { rootVolume: {} });
  // @ts-expect-error an image is a name, or what has an id
  new VirtualMachine(stack, 'b', { image: 7 });
  // @ts-expect-error a group makes VMs, not a VM with count
  new VirtualMachine(stack, 'c', { image: 'demo', count: 3 });
  // @ts-expect-error it is called memory
  new VirtualMachine(stack, 'd', { image: 'demo', ram: '1GiB' });
  // @ts-expect-error a network is something with an id
  new VirtualMachine(stack, 'e', { image: 'demo', network: {} });
  // @ts-expect-error a subnet says the prefix
  new Network(stack, 'f', { subnet, prefix: plan });
  // @ts-expect-error and the cidr
  new Network(stack, 'g', { subnet, cidr: '2001:db8::/64' });
  // @ts-expect-error a group says who its members are
  new VmGroup(stack, 'h', { image: 'demo' });
  // @ts-expect-error in one way
  new VmGroup(stack, 'i', { image: 'demo', count: 1, members: ['a'] });
  // @ts-expect-error and how they are spread, too
  new VmGroup(stack, 'j', { image: 'demo', count: 1, spread: 'none', antiAffinity: { group: 'all' } });
  // @ts-expect-error these are the modes
  new VmGroup(stack, 'k', { image: 'demo', count: 1, spread: 'always' });
  // @ts-expect-error what is cut has a name already
  new PrefixPlan(stack, 'l', { within: plan, name: 'l', subnets: [] });
  // @ts-expect-error a plan has subnets
  new PrefixPlan(stack, 'm', {});
  // @ts-expect-error a VM is no provider
  new UcloudProvider(stack, 'n', { alias: new VirtualMachine(stack, 'o', { image: 'demo' }) });
  // @ts-expect-error addresses are read
  new VirtualMachine(stack, 'p', { image: 'demo' }).address = '2001:db8::1';
  // Valid code: constructs, resources, data sources, ids.
  const lan = new bindings.dataUcloudNetwork.DataUcloudNetwork(stack, 'lan', { name: 'lan' });
  new VirtualMachine(stack, 'q', { image: { id: 'img-0' }, network: lan, dependsOn: [plan, lan] });
}
`;

t.test('the npm package', async (t) => {
  const work = temporaryDirectory(t);
  const tarball = await packageConstructs(work);
  const { stdout: list } = await exec('tar', ['-tzf', tarball]);
  const others = list
    .split('\n')
    .filter((path) => path !== '' && !/^package\/(constructs|net)\/.*\.(js|d\.ts)$/.test(path));
  t.strictSame(others.toSorted(), ['package/LICENSE', 'package/README.md', 'package/package.json'], 'nothing else');

  writeFileSync(join(work, 'package.json'), '{ "name": "outside", "private": true }');
  await exec('npm', ['install', '--offline', '--legacy-peer-deps', '--ignore-scripts', '--no-audit', tarball], {
    cwd: work,
  });
  mkdirSync(join(work, 'node_modules/@types'));
  for (const name of ['cdktf', 'cdktn', 'constructs', '@types/node', 'undici-types']) {
    symlinkSync(realpathSync(join('node_modules', name)), join(work, 'node_modules', name));
  }
  const installed = JSON.parse(
    readFileSync(join(work, 'node_modules/@ucloud/provider/package.json'), 'utf8'),
  ) as Record<string, unknown>;
  t.match(installed.peerDependencies, { cdktf: String, cdktn: String, constructs: String });
  t.strictSame(installed.peerDependenciesMeta, { cdktf: { optional: true }, cdktn: { optional: true } });
  t.notOk(installed.dependencies ?? installed.devDependencies);

  const required = (library: string, from: string) =>
    `const { App, TerraformOutput, TerraformStack } = require('${library}');\nconst { ${names} } = require('${from}');\n${app}`;
  const [cdktf, cdktn] = ['@ucloud/provider/constructs', '@ucloud/provider/constructs/cdktn'];
  const files = {
    'app.cjs': required('cdktf', cdktf),
    'app.mjs': imported('cdktf', cdktf),
    'terrain.cjs': required('cdktn', cdktn),
    'app.ts': imported('cdktf', cdktf),
    'terrain.ts': imported('cdktn', cdktn),
    'wrong.ts': wrong,
    'module/app.ts': imported('cdktf', cdktf),
    'module/package.json': '{ "type": "module" }',
  };
  mkdirSync(join(work, 'module'));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(work, name), content);

  await t.test('has types for apps of each kind, which refuse what cannot be', async (t) => {
    const check = async (sources: string[], ...options: string[]) => {
      const run = exec(
        process.execPath,
        [require.resolve('typescript/bin/tsc'), '--noEmit', '--strict', '--target', 'es2022', ...options, ...sources],
        { cwd: work },
      );
      t.equal(
        await run.then(
          ({ stdout }) => stdout,
          (error: { stdout: string }) => error.stdout,
        ),
        '',
        options.join(' '),
      );
    };
    const sources = ['app.ts', 'terrain.ts', 'wrong.ts'];
    // The settings of `cdktf init` and of newer apps. The former check all declarations, including ours.
    await check(sources, '--module', 'commonjs', '--moduleResolution', 'node10', '--types', 'node');
    await check(
      [...sources, 'module/app.ts'],
      '--module',
      'nodenext',
      '--skipLibCheck',
      '--exactOptionalPropertyTypes',
    );
  });

  const synthesized = async (file: string) => {
    const out = join(work, `out-${file}`);
    mkdirSync(out);
    await exec(process.execPath, [join(work, file)], { cwd: out });
    return readFileSync(join(out, 'cdktf.out/stacks/outside/cdk.tf.json'), 'utf8');
  };
  const json = await synthesized('app.cjs');

  await t.test('is loaded as CommonJS and as ES module, by apps of cdktf and of cdktn', async (t) => {
    interface Stack {
      readonly resource: object;
      readonly output: object;
      readonly terraform: { readonly required_providers: object };
    }
    const told = (text: string) => {
      const { resource, output, terraform } = JSON.parse(text) as Stack;
      return { resource, output, providers: terraform.required_providers };
    };
    for (const file of ['app.mjs', 'terrain.cjs']) t.strictSame(told(await synthesized(file)), told(json), file);
  });

  await t.test('and deployed', { skip: terraformMissing() ?? false }, async (t) => {
    const cloud = await startTestCloud(t);
    const directory = cloud.terraform(t, { 'provider.tf': '', 'cdk.tf.json': json });
    await directory.run('init', '-no-color');
    await directory.apply();
    const vms = (await cloud.member.list('vms')).items;
    t.strictSame(await directory.outputs(), {
      addresses: Object.fromEntries(vms.map(({ name, address }) => [name, address])),
    });
    t.strictSame(vms.map(({ name }) => name).toSorted(), ['db', 'web-1', 'web-2']);
    t.strictSame(await directory.pending(), []);
    await directory.destroy();
    t.strictSame((await cloud.member.list('vms')).items, []);
  });
});
