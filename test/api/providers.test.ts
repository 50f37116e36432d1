/** The registry of Terraform providers as HTTP: what it offers, what it keeps to itself, and that nothing leads out. */
import { execFile } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/stores.ts';

const sum = 'ab'.repeat(32);
const fingerprint = '0123456789ABCDEF0123456789ABCDEF01234567';
const armor = '-----BEGIN PGP PUBLIC KEY BLOCK-----\n';
const platforms = ['darwin_arm64', 'linux_amd64'];
const manifest = '{"version":1,"metadata":{"protocol_versions":["6.0"]}}';

const prefix = (version: string) => `terraform-provider-ucloud_${version}`;

/** A release with everything a registry needs. The bytes mean nothing: who judges them is Terraform. */
function putRelease(directory: string, version: string): void {
  mkdirSync(directory, { recursive: true });
  const put = (suffix: string, content: string) =>
    writeFileSync(join(directory, `${prefix(version)}_${suffix}`), content);
  for (const platform of platforms) put(`${platform}.zip`, `archive ${version} ${platform}`);
  put('manifest.json', manifest);
  put('SHA256SUMS', platforms.map((platform) => `${sum}  ${prefix(version)}_${platform}.zip\n`).join(''));
  put('SHA256SUMS.sig', 'signature');
  writeFileSync(join(directory, `${fingerprint}.asc`), armor);
}

async function serve(t: Test) {
  const root = temporaryDirectory(t);
  writeFileSync(join(root, 'secret'), 'secret');
  const packages = join(root, 'served', 'providers', 'ucloud', 'ucloud');
  putRelease(packages, '1.0.0');
  const test = await startTestApi(t, { providerDirectory: join(root, 'served') });
  return { root: join(root, 'served'), packages, url: test.url, nobody: test.client(undefined) };
}

const registry = '/terraform/providers/v1';

t.test('a client that follows the links arrives at the packages', async (t) => {
  const { url, nobody } = await serve(t);
  const json = async (path: string) => {
    const answer = await nobody.expect(200, 'GET', path);
    t.match(answer.headers.get('content-type'), /^application\/json/);
    return answer.body as unknown as Record<string, unknown>;
  };
  const discovery = await json('/.well-known/terraform.json');
  t.strictSame(discovery, { 'providers.v1': `${registry}/` });
  t.strictSame(await json(`${registry}/ucloud/ucloud/versions`), {
    versions: [
      {
        version: '1.0.0',
        protocols: ['6.0'],
        platforms: [
          { os: 'darwin', arch: 'arm64' },
          { os: 'linux', arch: 'amd64' },
        ],
      },
    ],
  });
  const download = await json(`${registry}/ucloud/ucloud/1.0.0/download/linux/amd64`);
  t.match(download, {
    protocols: ['6.0'],
    os: 'linux',
    arch: 'amd64',
    filename: 'terraform-provider-ucloud_1.0.0_linux_amd64.zip',
    shasum: sum,
    signing_keys: { gpg_public_keys: [{ key_id: fingerprint.slice(-16), ascii_armor: armor }] },
  });
  for (const [link, content] of [
    ['download_url', 'archive 1.0.0 linux_amd64'],
    ['shasums_signature_url', 'signature'],
  ] as const) {
    const answer = await fetch(new URL(String(download[link]), url));
    t.equal(await answer.text(), content);
    t.equal(answer.headers.get('content-length'), String(content.length));
  }
  t.match(await (await fetch(new URL(String(download.shasums_url), url))).text(), sum);
  t.equal((await fetch(new URL(String(download.download_url), url), { method: 'HEAD' })).status, 200);
});

t.test('our own name in the mirror is the name that the client calls us', async (t) => {
  const { url, nobody } = await serve(t);
  const { host } = new URL(url);
  const path = (name: string, file: string) => `/terraform/mirror/${name}/ucloud/ucloud/${file}`;
  for (const name of [host, 'ucloud.localhost']) {
    t.strictSame((await nobody.expect(200, 'GET', path(name, 'index.json'))).body, { versions: { '1.0.0': {} } });
    t.match((await nobody.expect(200, 'GET', path(name, '1.0.0.json'))).body, {
      archives: { linux_amd64: { url: 'terraform-provider-ucloud_1.0.0_linux_amd64.zip', hashes: [`zh:${sum}`] } },
    });
    const { body } = await nobody.expect(200, 'GET', path(name, 'terraform-provider-ucloud_1.0.0_linux_amd64.zip'));
    t.match(body, { text: 'archive 1.0.0 linux_amd64' });
  }
  const calledCloud = new Promise<number | undefined>((resolve, reject) => {
    get(url + path('cloud.example.net', 'index.json'), { headers: { host: 'Cloud.example.net' } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
  t.equal(await calledCloud, 200);
  for (const name of ['cloud.example.net', 'registry.terraform.io', `x${host}`]) {
    await nobody.expect(404, 'GET', path(name, 'index.json'));
  }
});

t.test('the directory may change at any time', async (t) => {
  const { root, packages, nobody } = await serve(t);
  const versions = async (): Promise<string[]> => {
    const { status, body } = await nobody.request('GET', `${registry}/ucloud/ucloud/versions`);
    if (status === 404) return [];
    return (body as unknown as { versions: { version: string }[] }).versions.map(({ version }) => version);
  };
  const become = (what: string, expected: string[]) =>
    until(what, async () => JSON.stringify(await versions()) === JSON.stringify(expected));
  await become('at first', ['1.0.0']);
  putRelease(packages, '1.1.0');
  await become('a new version', ['1.0.0', '1.1.0']);
  unlinkSync(join(packages, `${prefix('1.1.0')}_SHA256SUMS.sig`));
  await become('not without a signature', ['1.0.0']);
  const mirror = '/terraform/mirror/ucloud.localhost/ucloud/ucloud';
  t.strictSame(
    (await nobody.expect(200, 'GET', `${mirror}/index.json`)).body,
    { versions: { '1.0.0': {}, '1.1.0': {} } },
    'the mirror needs none',
  );
  writeFileSync(join(packages, `${prefix('1.0.0')}_manifest.json`), '{"metadata":{"protocol_versions":"6.0"}}');
  await become('not without a manifest', []);
  putRelease(packages, '1.0.0');
  await become('again', ['1.0.0']);
  appendFileSync(join(packages, `${prefix('1.0.0')}_SHA256SUMS`), 'this is no checksum\n');
  await become('not without checksums', []);
  putRelease(packages, '1.0.0');
  await become('and again', ['1.0.0']);
  writeFileSync(join(packages, `${fingerprint}.asc`), 'no key');
  await become('not without a key', []);
  rmSync(root, { recursive: true });
  await until('nothing', async () => (await nobody.request('GET', `${mirror}/index.json`)).status === 404);
  await nobody.expect(200, 'GET', '/.well-known/terraform.json');
});

t.test('of what others publish, the hashes that were copied with it', async (t) => {
  const { root, nobody } = await serve(t);
  const directory = join(root, 'mirror', 'registry.terraform.io', 'hashicorp', 'null');
  mkdirSync(directory, { recursive: true });
  const file = 'terraform-provider-null_3.2.1_linux_amd64.zip';
  writeFileSync(join(directory, file), 'null');
  writeFileSync(
    join(directory, '3.2.1.json'),
    JSON.stringify({ archives: { linux_amd64: { hashes: ['h1:abc=', 'sha9:x', 7], url: '../../../../../secret' } } }),
  );
  const base = '/terraform/mirror/registry.terraform.io/hashicorp/null';
  await until('it is there', async () => (await nobody.request('GET', `${base}/index.json`)).status === 200);
  t.strictSame((await nobody.expect(200, 'GET', `${base}/3.2.1.json`)).body, {
    archives: { linux_amd64: { url: file, hashes: ['h1:abc='] } },
  });
  t.match((await nobody.expect(200, 'GET', `${base}/${file}`)).body, { text: 'null' });
});

t.test('nothing leads out of the directory, nor to what is not offered', async (t) => {
  const { root, packages, nobody } = await serve(t);
  writeFileSync(join(packages, 'private.pem'), 'secret');
  writeFileSync(join(packages, '.hidden.zip'), 'secret');
  writeFileSync(join(packages, `${prefix('1.0.0')}_linux_riscv64.zip`), 'secret: not in the list of checksums');
  mkdirSync(join(root, 'mirror', '..evil', 'a', 'b'), { recursive: true });
  writeFileSync(join(root, 'mirror', '..evil', 'a', 'b', 'terraform-provider-b_1.0.0_linux_amd64.zip'), 'secret');
  putRelease(packages, '2.0.0');
  await until('it has been read again', async () =>
    JSON.stringify((await nobody.request('GET', `${registry}/ucloud/ucloud/versions`)).body).includes('2.0.0'),
  );
  const files = '/terraform/files/ucloud/ucloud';
  const mirror = '/terraform/mirror/ucloud.localhost/ucloud/ucloud';
  for (const path of [
    ...['private.pem', '.hidden.zip', `${prefix('1.0.0')}_linux_riscv64.zip`, `${fingerprint}.asc`].flatMap((name) => [
      `${files}/${name}`,
      `${mirror}/${name}`,
    ]),
    ...[
      '..%2f..%2f..%2f..%2fsecret',
      '%2e%2e',
      '..%5csecret',
      '%00',
      'a'.repeat(90),
      '.json',
      '..%2f1.0.0.json',
    ].flatMap((name) => [`${files}/${name}`, `${mirror}/${name}`, `${registry}/ucloud/${name}/versions`]),
    `${files}/`,
    '/terraform/files/..%2f..%2fucloud/ucloud/secret',
    '/terraform/mirror/..evil/a/b/index.json',
    '/terraform/mirror/../providers/ucloud/ucloud/index.json',
    '/terraform/mirror/constructor/__proto__/toString/index.json',
    `${registry}/__proto__/constructor/versions`,
    `${registry}/ucloud/ucloud/1.0.0/download/linux/riscv64`,
    `${registry}/ucloud/ucloud/1.0.0/download/..%2f/amd64`,
    `${registry}/ucloud/ucloud/..%2f1.0.0/download/linux/amd64`,
    `${mirror}/9.9.9.json`,
  ]) {
    const { status, body } = await nobody.request('GET', path);
    t.equal(status, 404, path);
    t.equal(body.code, 'not_found', path);
  }
});

t.test('a directory that the operator names must be there', async (t) => {
  const data = temporaryDirectory(t);
  const named = join(data, 'nowhere');
  const run = promisify(execFile)('backend/cli/ucloud', [
    ...['up', '--data', data, '--credentials', join(data, 'credentials.json'), '--hypervisor', 'simulated'],
    ...['--listen', '[::1]:0', '--provider-directory', named],
  ]);
  const said = await run.then(
    () => 'nothing: it started',
    (error: { stderr: string }) => error.stderr,
  );
  t.match(said, `--provider-directory: "${named}" is not a directory`);
});

t.test('without a directory there is no registry', async (t) => {
  const { client } = await startTestApi(t);
  await client(undefined).expect(404, 'GET', '/.well-known/terraform.json');
});
