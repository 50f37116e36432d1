/**
 * The cloud as the registry of its own provider. The provider is packaged, signed, served over TLS with certificates of a
 * temporary CA, and installed by the real Terraform. Terraform does not install a manipulated package.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { Agent, request } from 'undici';
import { type Built, buildExecutable, buildProvider, executableName } from '../../provider/build.ts';
import { packageProvider } from '../../provider/package.ts';
import { canMakeExecutable } from '../../provider/packaging/executable.ts';
import { sign } from '../../provider/packaging/signature.ts';
import { version } from '../../provider/schema/resources.gen.ts';
import { type Cloud, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { startTestApi } from '../support/api.ts';
import { asked } from '../support/cloud.ts';
import { rawDisk } from '../support/disk-images.ts';
import { makeCertificates } from '../support/etcd.ts';
import { until } from '../support/eventually.ts';
import { gpgMissing, makeSigningKey, type SecretKey } from '../support/gpg.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const run = promisify(execFile);
const skip = gpgMissing() ?? terraformMissing() ?? false;
const name = (suffix: string) => `terraform-provider-ucloud_${version}_${suffix}`;
const platform = process.arch === 'arm64' ? 'linux_arm64' : 'linux_amd64';
const noExecutable = !canMakeExecutable && 'SKIPPED: executables are made on Linux only';

let certificates: { readonly directory: string; readonly cert: string; readonly key: string };
let built: Built;
let key: SecretKey;
/** The packages that the command has created and signed, for Node on the user's machine. No test changes them. */
let pristine: string;

/** Packages and signs the provider with the command for operators. */
async function packaged(t: Test, ...options: string[]) {
  const directory = temporaryDirectory(t);
  const args = ['provider/package.ts', '--output', directory, '--key', key.file, ...options];
  const { stdout } = await run(process.execPath, args, {
    env: { ...process.env, UCLOUD_SIGNING_PASSPHRASE: 'open sesame' },
  });
  return { directory, said: stdout };
}

t.before(async () => {
  if (skip) return;
  const directory = temporaryDirectory(t);
  await makeCertificates(directory);
  const file = (name: string) => readFileSync(join(directory, name), 'utf8');
  certificates = { directory, cert: file('server.pem'), key: file('server-key.pem') };
  built = await buildProvider(temporaryDirectory(t));
  key = await makeSigningKey(t, { algorithm: 'rsa2048', passphrase: 'open sesame' });
  const { directory: signed, said } = await packaged(t, '--no-executable');
  pristine = signed;
  t.match(said, `signed by ${key.fingerprint}`);
});

/** Returns the directory of the packages. */
const packagesOf = (directory: string) => join(directory, 'providers', 'ucloud', 'ucloud');
const authority = () => join(certificates.directory, 'ca.pem');

/** Returns a copy of the signed packages, which a test may change. */
function copyOfPristine(t: Test): string {
  const directory = temporaryDirectory(t);
  cpSync(pristine, directory, { recursive: true });
  return directory;
}

/** Returns a package of another provider, which unpacks without errors. */
function withHostileCode(t: Test): Built {
  const directory = temporaryDirectory(t);
  cpSync(built.directory, directory, { recursive: true });
  writeFileSync(join(directory, 'provider.cjs'), '// hostile', { flag: 'a' });
  return { ...built, directory };
}

/** Starts an API with TLS that serves the directory. */
async function serve(t: Test, providerDirectory: string) {
  const api = await startTestApi(t, { listen: { host: '::', port: 0 }, tls: certificates, providerDirectory });
  const { port } = new URL(api.url);
  const dispatcher = new Agent({ connect: { ca: readFileSync(authority(), 'utf8') } });
  t.teardown(() => dispatcher.close());
  const url = `https://[::1]:${port}`;
  return {
    host: `localhost:${port}`,
    async get(path: string, headers: Record<string, string> = {}) {
      const answer = await request(url + path, { dispatcher, headers });
      const bytes = Buffer.from(await answer.body.arrayBuffer());
      const text = bytes.toString();
      return {
        status: answer.statusCode,
        headers: answer.headers,
        bytes,
        body: (/^\{/.test(text) ? JSON.parse(text) : {}) as Record<string, unknown>,
      };
    },
  };
}

const requirement = (source: string) => `terraform {
  required_providers {
    ucloud = {
      source = "${source}"
    }
  }
}
`;

/** Returns a working directory that trusts the CA. By default, its plugins come from their registries. */
function terraform(t: Test, main: string, installation = 'direct {}', environment: Record<string, string> = {}) {
  const directory = new TerraformDirectory(
    { 'main.tf': main },
    { installation, environment: { SSL_CERT_FILE: authority(), ...environment } },
  );
  t.teardown(() => directory.remove());
  return directory;
}

const words = (text: string): string => text.replace(/[│╷╵\s]+/g, ' ');

/** Starts a cloud on simulated hosts that serves its provider, and a quickstart with that source. */
async function quickstart(t: Test, providerDirectory: string) {
  const data = temporaryDirectory(t);
  asked(t, { NODE_EXTRA_CA_CERTS: authority() });
  const cloud: Cloud = await startCloud(data, [
    ...['--hypervisor', 'simulated', '--listen', '[::]:0', '--provider-directory', providerDirectory],
    ...['--tls-cert', join(certificates.directory, 'server.pem')],
    ...['--tls-key', join(certificates.directory, 'server-key.pem')],
  ]);
  t.teardown(() => cloud.stop());
  const image = join(data, 'disk.raw');
  writeFileSync(image, rawDisk());
  const { token } = await setUpCloud(cloud, data, image);

  const host = `localhost:${new URL(cloud.endpoint).port}`;
  const main = readFileSync('provider/examples/quickstart/main.tf', 'utf8').replace('ucloud.localhost/', `${host}/`);
  const environment = {
    UCLOUD_ENDPOINT: `https://${host}`,
    UCLOUD_TOKEN: token,
    UCLOUD_CA_FILE: authority(),
    TF_VAR_public_key: testPublicKey,
  };
  return {
    host,
    /** Returns a working directory with the quickstart. */
    prepare: (more: Record<string, string>) => terraform(t, main, 'direct {}', { ...environment, ...more }),
  };
}

async function applyAndDestroy(t: Test, directory: TerraformDirectory): Promise<void> {
  await directory.apply();
  t.strictSame((await directory.state()).filter(({ type }) => type === 'ucloud_vm').length, 2, 'the provider works');
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
}

t.test('with TLS on, terraform init with the cloud as source just works', { skip }, async (t) => {
  const { host, prepare } = await quickstart(t, pristine);
  const directory = prepare({ UCLOUD_NODE: process.execPath });
  const said = await directory.run('init', '-no-color');
  t.match(said, `Installed ${host}/ucloud/ucloud v${version} (self-signed, key ID ${key.fingerprint.slice(-16)})`);
  const lock = readFileSync(join(directory.path, '.terraform.lock.hcl'), 'utf8');
  const sums = readFileSync(join(packagesOf(pristine), name('SHA256SUMS')), 'utf8').match(/^[0-9a-f]{64}/gm) ?? [];
  for (const sum of sums) t.match(lock, `zh:${sum}`, 'the lock file has the checksums of every platform');

  await applyAndDestroy(t, directory);

  const stranger = terraform(t, requirement(`${host}/ucloud/ucloud`), 'direct {}', { SSL_CERT_FILE: '/dev/null' });
  const refused = await stranger.try('init', '-no-color');
  t.equal(refused.code, 1);
  t.match(words(refused.stderr), /certificate signed by unknown authority/, 'only who trusts the authority');
});

t.test('the executable needs no Node', { skip: skip || noExecutable }, async (t) => {
  const { directory: packages, said } = await packaged(t);
  t.match(said, /is one executable and needs no Node\.js/);
  const { host, prepare } = await quickstart(t, packages);

  // A machine with Terraform alone.
  const bin = temporaryDirectory(t);
  symlinkSync((await run('sh', ['-c', 'command -v terraform'])).stdout.trim(), join(bin, 'terraform'));
  const bare = { PATH: bin };
  const lookup = run('/bin/sh', ['-c', 'command -v node'], { env: bare });
  await t.rejects(lookup, { code: 127 }, 'nobody finds a Node there');

  const directory = prepare(bare);
  await directory.run('init');
  await applyAndDestroy(t, directory);

  const { prepare: prepareWithout } = await quickstart(t, pristine);
  const without = prepareWithout(bare);
  await without.run('init');
  const { code, stderr } = await without.try('plan', '-no-color');
  t.equal(code, 1);
  t.match(words(stderr), /needs Node.js 24 or newer, and there is no "node"/, 'the launcher says what it needs');

  const again = join(temporaryDirectory(t), 'executable');
  await buildExecutable(again);
  const installed = join(directory.path, '.terraform/providers', host, 'ucloud/ucloud', version, platform);
  t.strictSame(readdirSync(installed).sort(), ['LICENSE', 'LICENSE.node', executableName]);
  for (const file of readdirSync(installed)) {
    t.ok(
      readFileSync(join(installed, file)).equals(readFileSync(join(again, file))),
      `${file} is the same bytes again`,
    );
  }
  const others = readdirSync(packagesOf(packages)).filter((name) => name.endsWith('.zip') && !name.includes(platform));
  t.equal(others.length, 3);
  for (const other of others) {
    const of = (directory: string) => readFileSync(join(packagesOf(directory), other));
    t.ok(of(packages).equals(of(pristine)), `${other} holds the program alone`);
  }
});

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

function flipBit(file: string, offset: number): void {
  const bytes = readFileSync(file);
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

t.test('what has been tampered with is not installed', { skip }, async (t) => {
  const other = await makeSigningKey(t);
  const cases: Record<string, { tamper: (packages: string) => Promise<void> | void; says: RegExp }> = {
    'an archive': {
      tamper: (packages) => {
        flipBit(join(packages, name(`${platform}.zip`)), 1000);
      },
      says: /archive has incorrect checksum/,
    },
    'an archive and its checksum': {
      tamper: (packages) => {
        const archive = join(packages, name(`${platform}.zip`));
        const sums = join(packages, name('SHA256SUMS'));
        const before = sha256(archive);
        flipBit(archive, 1000);
        writeFileSync(sums, readFileSync(sums, 'utf8').replaceAll(before, sha256(archive)));
      },
      says: /error checking signature/,
    },
    'the signature': {
      tamper: (packages) => {
        const file = join(packages, name('SHA256SUMS.sig'));
        flipBit(file, readFileSync(file).length - 1);
      },
      says: /error checking signature/,
    },
    'the signature, for that of another key': {
      tamper: async (packages) => {
        const sums = join(packages, name('SHA256SUMS'));
        writeFileSync(`${sums}.sig`, (await sign(sums, other.file)).signature);
      },
      says: /authentication signature from unknown issuer/,
    },
  };
  for (const [what, { tamper, says }] of Object.entries(cases)) {
    await t.test(what, async (t) => {
      const directory = copyOfPristine(t);
      await tamper(packagesOf(directory));
      const { host } = await serve(t, directory);
      const working = terraform(t, requirement(`${host}/ucloud/ucloud`));
      const { code, stderr } = await working.try('init', '-no-color');
      t.equal(code, 1);
      t.match(words(stderr), says);
    });
  }

  await t.test('all of it, with a key and a signature that fit, where a lock file knows better', async (t) => {
    const directory = copyOfPristine(t);
    const { host, get } = await serve(t, directory);
    const working = terraform(t, requirement(`${host}/ucloud/ucloud`));
    await working.run('init');

    unlinkSync(join(packagesOf(directory), `${key.fingerprint}.asc`));
    const { replaced } = await packageProvider(withHostileCode(t), { output: directory, key: other.file });
    t.ok(replaced, 'packaging says that the version was there with other contents');
    const download = `/terraform/providers/v1/ucloud/ucloud/${version}/download/${platform.replace('_', '/')}`;
    await until('the registry sees the change', async () =>
      JSON.stringify((await get(download)).body).includes(other.fingerprint.slice(-16)),
    );
    rmSync(join(working.path, '.terraform'), { recursive: true });
    const { code, stderr } = await working.try('init', '-no-color');
    t.equal(code, 1);
    t.match(words(stderr), /doesn't match any of the checksums/);
    await terraform(t, requirement(`${host}/ucloud/ucloud`)).run('init');
  });
});

t.test('what is not there', { skip }, async (t) => {
  const directory = copyOfPristine(t);
  unlinkSync(join(packagesOf(directory), name(`${platform}.zip`)));
  const without = await serve(t, directory);
  const noPlatform = await terraform(t, requirement(`${without.host}/ucloud/ucloud`)).try('init', '-no-color');
  t.match(words(noPlatform.stderr), /does not have a package available for your current platform/);
  const noProvider = await terraform(t, requirement(`${without.host}/ucloud/other`)).try('init', '-no-color');
  t.match(words(noProvider.stderr), /does not have a provider named/);
});

t.test('packaging', { skip }, async (t) => {
  const directory = copyOfPristine(t);
  const read = (name: string) => readFileSync(join(packagesOf(directory), name));
  const before = read(name(`${platform}.zip`));
  const again = await packageProvider(await buildProvider(temporaryDirectory(t)), { output: directory });
  t.notOk(again.replaced);
  t.ok(before.equals(read(name(`${platform}.zip`))), 'makes the same bytes each time');
  t.notOk(readdirSync(packagesOf(directory)).includes(name('SHA256SUMS.sig')), 'an old signature does not stay');

  const signed = packageProvider(built, { output: directory, key: key.file, passphrase: 'open barley' });
  await t.rejects(signed, { message: /SHA256SUMS cannot be signed: .*Bad passphrase/s });
  t.notOk(
    readdirSync(packagesOf(directory)).some((name) => /\.(sig|new)$/.test(name)),
    'nothing half done is left',
  );
  await t.rejects(sign(again.sums, again.sums), { message: /cannot be imported: .*no valid OpenPGP data/s });
});

t.test('network mirror', { skip }, async (t) => {
  const directory = copyOfPristine(t);
  // A mirror needs no signature: TLS identifies the mirror, and the lock file identifies the package.
  unlinkSync(join(packagesOf(directory), name('SHA256SUMS.sig')));
  const { host } = await serve(t, directory);
  const mirror = `network_mirror {\n    url = "https://${host}/terraform/mirror/"\n  }`;
  const install = (source: string) => terraform(t, requirement(source), mirror).try('init', '-no-color');

  // This does not use `host`: Terraform cannot ask a mirror for host names with a port.
  const { code, stdout, stderr } = await install('ucloud.localhost/ucloud/ucloud');
  t.equal(code, 0, stderr);
  t.match(stdout, `Installed ucloud.localhost/ucloud/ucloud v${version} (verified checksum)`);
  t.match(
    words((await install('registry.terraform.io/ucloud/ucloud')).stderr),
    /provider registry.terraform.io\/ucloud\/ucloud was not found/,
    'names that belong to others are not ours',
  );

  await t.test('of providers of other registries, as terraform providers mirror copies them', async (t) => {
    // Another registry with its packages.
    const origin = await serve(t, pristine);
    const copying = terraform(t, requirement(`${origin.host}/ucloud/ucloud`));
    await copying.run('providers', 'mirror', `-platform=${platform}`, 'copy');
    mkdirSync(join(directory, 'mirror', 'example.net'), { recursive: true });
    const copied = join(directory, 'mirror', 'example.net', 'acme');
    renameSync(join(copying.path, 'copy', origin.host, 'ucloud'), copied);

    const source = 'example.net/acme/ucloud';
    const { stdout } = await until('the mirror sees it', async () => {
      const result = await install(source);
      return result.code === 0 && result;
    });
    t.match(stdout, `Installed ${source} v${version} (verified checksum)`);

    const archive = join(copied, 'ucloud', name(`${platform}.zip`));
    const hostile = temporaryDirectory(t);
    await packageProvider(withHostileCode(t), { output: hostile });
    cpSync(join(packagesOf(hostile), name(`${platform}.zip`)), archive);
    const { code, stderr } = await install(source);
    t.equal(code, 1);
    t.match(words(stderr), /checksum|hash/, 'a copy that was tampered with is refused');
  });
});
