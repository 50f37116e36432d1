/**
 * Runs all of ucloud on one machine: builds the provider and a guest image, starts every component, and lets Terraform
 * create two VMs. Tests the VMs by ping and ssh, and shows that a second plan has no changes.
 *
 *   npm run demo                stays up; Ctrl-C removes everything
 *   npm run demo -- --once      destroys the VMs, checks that nothing is left, and ends
 *   npm run demo -- --hosts 3   runs three hosts in network namespaces, with the VMs of one network on several of them
 *   npm run demo -- --hypervisor simulated    no QEMU, no root: VMs are simulated
 *   npm run demo -- --store etcd://[::1]:2379     uses an etcd that already runs
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Cloud, cleanUp, setUpCloud, startCloud } from './demo/cloud.ts';
import { addedLines, footprint, processMarks } from './demo/footprint.ts';
import { cleanUpLab, hasClient, startLab, uploadImage, verifyLabVms } from './demo/lab.ts';
import { eventually, exec, show, step } from './demo/steps.ts';

const { values: options } = parseArgs({
  options: {
    once: { type: 'boolean', default: false },
    hosts: { type: 'string' },
    hypervisor: { type: 'string', default: 'auto' },
    store: { type: 'string' },
    data: { type: 'string', default: '.ucloud/demo' },
  },
});
const data = resolve(options.data);
/** The number of hosts of the lab. Undefined: one host, without a lab. */
const hosts = options.hosts === undefined ? undefined : Number(options.hosts);
if (hosts !== undefined && (!Number.isInteger(hosts) || hosts < 2 || hosts > 16)) {
  console.error('--hosts: must be a whole number from 2 to 16');
  process.exit(2);
}
if (hosts !== undefined && options.store !== undefined) {
  console.error('--store: the lab of --hosts has an etcd of its own');
  process.exit(2);
}
/** Each demo on an etcd is a separate cloud. It gets a new key prefix unless the address has one. */
const store = options.store?.replace(/^(etcds?:\/\/[^/?]+)\/?$/, `$1/demo-${Date.now().toString(36)}`);
const cache = resolve('.ucloud/cache');
const began = performance.now();

/** Removes the VMs, networks and data of this demo or of an earlier one. */
const removeAll = () => (existsSync(join(data, 'lab')) ? cleanUpLab(data) : cleanUp(data));

async function requireTerraform(): Promise<void> {
  const answer = await exec('terraform', ['version', '-json'], {
    env: { ...process.env, TF_CLI_CONFIG_FILE: '/dev/null' },
  }).catch(() => undefined);
  const version: string = answer ? JSON.parse(answer.stdout).terraform_version : '';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > 1 || (major === 1 && minor >= 11)) return;
  console.error(
    `The demo needs Terraform 1.11 or newer, and ${version ? `this machine has ${version}` : 'there is none on the PATH'}.\n` +
      'Get it from https://developer.hashicorp.com/terraform/install. Put the file in the zip into a folder of your PATH.',
  );
  process.exit(1);
}

async function buildImage(): Promise<string> {
  const output = join(cache, 'demo.qcow2');
  await show(process.execPath, ['backend/guest/build-image.ts', '--output', output]);
  return output;
}

/** Creates a raw disk of 1 MiB that contains only the signature of a boot sector. */
function emptyImage(): string {
  const output = join(data, 'empty.raw');
  writeFileSync(output, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));
  return output;
}

interface Terraform {
  run(...args: string[]): Promise<string>;
  quiet(...args: string[]): Promise<string>;
}

function prepareTerraform(cloud: Cloud, token: string): Terraform {
  const directory = join(data, 'quickstart');
  mkdirSync(directory, { recursive: true });
  for (const file of ['main.tf']) copyFileSync(join('provider/examples/quickstart', file), join(directory, file));
  // The key is in a file, so that a user can continue in this directory.
  const publicKey = readFileSync(join(data, 'ssh.pub'), 'utf8').trim();
  writeFileSync(join(directory, 'terraform.tfvars'), `public_key = ${JSON.stringify(publicKey)}\n`);
  const config = join(data, 'terraform.rc');
  writeFileSync(
    config,
    `provider_installation {\n  filesystem_mirror {\n    path    = ${JSON.stringify(resolve('dist/mirror'))}\n    include = ["ucloud.localhost/ucloud/ucloud"]\n  }\n  direct {\n    exclude = ["ucloud.localhost/ucloud/ucloud"]\n  }\n}\n`,
  );
  const env = {
    ...process.env,
    TF_CLI_CONFIG_FILE: config,
    TF_IN_AUTOMATION: '1',
    CHECKPOINT_DISABLE: '1',
    UCLOUD_ENDPOINT: cloud.endpoint,
    UCLOUD_TOKEN: token,
    UCLOUD_NODE: process.execPath,
  };
  return {
    run: (...args) => show('terraform', args, { cwd: directory, env }),
    quiet: (...args) => show('terraform', args, { cwd: directory, env, quiet: true }),
  };
}

const sshOptions = () => [
  '-i',
  join(data, 'ssh'),
  '-o',
  'StrictHostKeyChecking=no',
  '-o',
  `UserKnownHostsFile=${join(data, 'known_hosts')}`,
  '-o',
  'ConnectTimeout=5',
  '-o',
  'LogLevel=ERROR',
  '-o',
  'BatchMode=yes',
];

async function verifyVms(addresses: Record<string, string>): Promise<void> {
  for (const [name, address] of Object.entries(addresses)) {
    await eventually(`ping ${name}`, 60_000, () => exec('ping', ['-6', '-c', '1', '-W', '2', address]));
    console.log(`    ${name}  ${address}  answers ping`);
  }
  for (const [name, address] of Object.entries(addresses)) {
    const hostName = await eventually(`ssh to ${name}`, 60_000, async () => {
      const { stdout } = await exec('ssh', [...sshOptions(), `ucloud@${address}`, 'hostname']);
      return stdout.trim();
    });
    if (hostName !== name) throw new Error(`the VM declared as ${name} calls itself ${hostName}`);
    console.log(`    ${name}  lets ucloud@${address} in with the key; its host name is ${hostName}`);
  }
}

async function checkNothingLeft(cloud: Cloud, marks: readonly string[], before: readonly string[]): Promise<void> {
  for (const noun of ['vm', 'network', 'prefix', 'ssh-key']) {
    const { items } = (await cloud.ucloud(noun, 'list')) as { items: unknown[] };
    if (items.length > 0) throw new Error(`${items.length} ${noun} remain: ${JSON.stringify(items)}`);
  }
  await cloud.stop();
  await removeAll();
  const left = addedLines(before, await footprint(marks, join(data, 'lab')));
  if (left.length > 0)
    throw new Error(`the demo has left this on the machine:\n${left.map((line) => `  ${line}`).join('\n')}`);
  console.log('    no VM, network, prefix or key in the API; no interface, route, filter or process on the machine');
}

async function main(): Promise<void> {
  await requireTerraform();
  if (existsSync(data)) {
    await step('removing the remains of an earlier demo', async () => {
      const removed = await removeAll();
      if (removed !== '') console.log(`    ${removed.replaceAll('\n', '\n    ')}`);
    });
  }
  const marks = processMarks(data);
  const before = await footprint(marks, join(data, 'lab'));
  mkdirSync(cache, { recursive: true });
  mkdirSync(data, { recursive: true, mode: 0o700 });

  const setUpDone = performance.now();
  await step('building the Terraform provider', () => show(process.execPath, ['provider/build.ts'], { quiet: true }));
  const title =
    hosts === undefined
      ? 'starting ucloud: API, scheduler, host, metadata server, image scanner'
      : `starting a lab: ${hosts} hosts, three etcd members, API, two schedulers, image scanner`;
  const cloud = await step(title, async () => {
    const extra = ['--hypervisor', options.hypervisor, ...(store ? ['--store', store] : [])];
    const started = await (hosts === undefined ? startCloud(data, extra) : startLab(data, hosts, options.hypervisor));
    console.log(
      `    ${started.endpoint}, hypervisor: ${started.hypervisor}${store ? `, database: ${store.replace(/\/\/[^@/]*@/, '//…@')}` : ''}`,
    );
    return started;
  });
  const real = cloud.hypervisor === 'qemu';
  if (!real)
    console.log(
      '    QEMU is not used here: VMs are simulated, so there is no ping and no ssh. `ucloud.log` in the data directory contains the reason.',
    );

  let stopping = false;
  const interrupted = new Promise<void>((resolved) => {
    let first = 0;
    // The terminal sends Ctrl-C here, and npm sends it a second time. Only a later one also ends the cleanup.
    const stop = () => {
      if (stopping && performance.now() - first > 1000) process.exit(1);
      if (!stopping) {
        first = performance.now();
        console.log('\nstopping: removing VMs, networks and data');
      }
      stopping = true;
      resolved();
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  });
  const work = async () => {
    // Simulated guests do not read their image.
    const image = real ? await step('building a guest image from Debian packages', buildImage) : emptyImage();
    const { token } = await step('as operator: a pool of prefixes, a public image, a token', () =>
      setUpCloud(cloud, data, image, hosts === undefined ? undefined : uploadImage),
    );
    await exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'demo', '-f', join(data, 'ssh')]);
    const terraform = prepareTerraform(cloud, token);
    await step('terraform init', () => terraform.quiet('init', '-no-color'));
    await step('terraform apply', () => terraform.run('apply', '-auto-approve', '-no-color'));
    const output = JSON.parse(await terraform.quiet('output', '-json', '-no-color')) as {
      addresses: { value: Record<string, string> };
    };
    const addresses = output.addresses.value;
    if (real && hosts === undefined) await step('testing the VMs', () => verifyVms(addresses));
    if (real && hosts !== undefined) {
      await step('testing the VMs on their hosts', async () => {
        for (const fact of await verifyLabVms(data, cloud, sshOptions())) console.log(`    ${fact}`);
      });
    }
    await step('terraform plan: nothing to do', async () => {
      // Exit code 2 means that the plan has changes; the promise then rejects.
      const plan = await terraform.quiet('plan', '-detailed-exitcode', '-no-color');
      console.log(`    ${/No changes\..*/.exec(plan)?.[0] ?? plan}`);
    });
    console.log(
      `\n${Object.keys(addresses).length} VMs are up, ${((performance.now() - setUpDone) / 1000).toFixed(0)} s after set-up:`,
    );
    for (const [name, address] of Object.entries(addresses)) console.log(`  ${name}  ${address}`);

    if (options.once) {
      await step('terraform destroy', () => terraform.run('destroy', '-auto-approve', '-no-color'));
      await step('checking that nothing is left', () => checkNothingLeft(cloud, marks, before));
      console.log(`\nAll of it worked, in ${((performance.now() - began) / 1000).toFixed(0)} s.`);
      return;
    }
    const [first = ''] = Object.values(addresses);
    const from = hosts !== undefined && (await hasClient(data)) ? 'client' : '<host>';
    const inLab = hosts === undefined ? '' : `npx ucloud lab exec --data ${join(options.data, 'lab')} ${from} -- `;
    console.log(`
Try next, in another terminal:
  export UCLOUD_CREDENTIALS=${cloud.credentials}
  npx ucloud vm list${real ? `\n  ${inLab}ssh -i ${join(options.data, 'ssh')} ucloud@${first}` : ''}
  npx ucloud event list
  cd ${join(options.data, 'quickstart')}     # change main.tf, then:
  TF_CLI_CONFIG_FILE=../terraform.rc UCLOUD_NODE=${process.execPath} terraform apply
API and documentation: ${cloud.endpoint}/docs      log: ${join(options.data, hosts === undefined ? 'ucloud.log' : 'lab/log')}
Ctrl-C removes the VMs and ends.`);
    await interrupted;
  };
  try {
    // Unfinished work ends with the process.
    await Promise.race([work(), interrupted]);
  } catch (error) {
    const [log, kept] = [join(data, 'ucloud.log'), `${data}.log`];
    // The log is already gone if the last check failed, because it runs after the cleanup.
    const there = existsSync(log);
    if (there) copyFileSync(log, kept);
    throw new Error(`${(error as Error).message}\n\nThe demo failed.${there ? ` Log: ${kept}` : ''}`, { cause: error });
  } finally {
    await cloud.stop();
    await removeAll();
  }
}

await main().then(
  () => process.exit(),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  },
);
