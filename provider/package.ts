/**
 * Creates the files that a provider registry needs:
 *
 *     npm run package:provider -- [--key FILE] [--output DIRECTORY] [--no-executable]
 *
 *     dist/registry/providers/ucloud/ucloud/
 *       terraform-provider-ucloud_<version>_<os>_<arch>.zip    launcher and program, or one executable
 *       terraform-provider-ucloud_<version>_manifest.json      the version of the plugin protocol
 *       terraform-provider-ucloud_<version>_SHA256SUMS         the checksums of these files
 *       terraform-provider-ucloud_<version>_SHA256SUMS.sig     with --key: OpenPGP, detached, binary
 *       <fingerprint>.asc                                      with --key: the public key
 *
 * The program is the same for every platform: JavaScript for the Node.js of the machine. On Linux, the archive for the
 * current platform contains an executable with Node instead, except with --no-executable. Two runs of one version of Node
 * create the same bytes. The command does not change other versions in the directory.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Built, buildProvider, executableName, platform } from './build.ts';
import { canMakeExecutable } from './packaging/executable.ts';
import { sign } from './packaging/signature.ts';
import { type Member, zip } from './packaging/zip.ts';
import { version } from './schema/resources.gen.ts';

/** The platforms of the packages, with Terraform's names. */
export const platforms = ['darwin_amd64', 'darwin_arm64', 'linux_amd64', 'linux_arm64'] as const;

/** https://developer.hashicorp.com/terraform/registry/providers/publishing#terraform-registry-manifest-file */
const manifest = `${JSON.stringify({ version: 1, metadata: { protocol_versions: ['6.0'] } }, undefined, 2)}\n`;

/** The options of a package. */
export interface PackageOptions {
  /** Directory that the API serves. */
  readonly output: string;
  /** File with the secret OpenPGP key. Without it, there is no signature. */
  readonly key?: string | undefined;
  readonly passphrase?: string | undefined;
  /** Directory with the executable. The package for this platform then contains it instead of launcher and program. */
  readonly executable?: string | undefined;
}

/** The files of a version. */
export interface Packaged {
  /** The directory of the files. */
  readonly directory: string;
  /** Path of the list of checksums. The signature belongs to this file. */
  readonly sums: string;
  readonly fingerprint?: string;
  /** True if this version existed with other contents: users with a lock file can then no longer install it. */
  readonly replaced: boolean;
}

const sha256 = (content: Uint8Array | string): string => createHash('sha256').update(content).digest('hex');

async function archiveOf(directory: string): Promise<Buffer> {
  const names = (await readdir(directory)).sort();
  const members = names.map(
    async (name): Promise<Member> => ({
      name,
      content: await readFile(join(directory, name)),
      executable: name === executableName,
    }),
  );
  return zip(await Promise.all(members));
}

/** Writes the files of a version for a registry. @throws Error if the signature fails */
export async function packageProvider(
  built: Built,
  { output, key, passphrase, executable }: PackageOptions,
): Promise<Packaged> {
  const directory = join(output, 'providers', 'ucloud', 'ucloud');
  const prefix = `terraform-provider-ucloud_${version}`;
  const sums = join(directory, `${prefix}_SHA256SUMS`);
  const portable = await archiveOf(built.directory);
  const native = executable === undefined ? portable : await archiveOf(executable);
  const files = new Map<string, Buffer | string>([
    ...platforms.map((name): [string, Buffer] => [`${prefix}_${name}.zip`, name === platform ? native : portable]),
    [`${prefix}_manifest.json`, manifest],
  ]);
  const list = [...files].map(([name, content]) => `${sha256(content)}  ${name}\n`).join('');

  await mkdir(directory, { recursive: true });
  const before = await readFile(sums, 'utf8').catch(() => undefined);
  // The registry offers a version only with a signature. The signature is removed first and written last, so no request
  // and no interrupted run finds half a version.
  await rm(`${sums}.sig`, { force: true });
  const put = async (name: string, content: Buffer | string) => {
    const path = join(directory, name);
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
  };
  for (const [name, content] of files) await put(name, content);
  await put(basename(sums), list);
  const replaced = before !== undefined && before !== list;
  if (key === undefined) return { directory, sums, replaced };
  const { signature, fingerprint, publicKey } = await sign(sums, key, passphrase);
  await put(`${fingerprint}.asc`, publicKey);
  await put(`${basename(sums)}.sig`, signature);
  return { directory, sums, fingerprint, replaced };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      key: { type: 'string' },
      output: { type: 'string', default: join(import.meta.dirname, '../dist/registry') },
      executable: { type: 'boolean', default: canMakeExecutable },
    },
    allowNegative: true,
  });
  const passphrase = process.env.UCLOUD_SIGNING_PASSPHRASE;
  const build = await mkdtemp(join(tmpdir(), 'ucloud-package-'));
  const packaged = async (): Promise<Packaged> => {
    const built = await buildProvider(build);
    if (values.executable && built.executable === undefined) throw new Error('executables are made on Linux only');
    const executable = values.executable ? built.executable : undefined;
    return packageProvider(built, { output: values.output, key: values.key, passphrase, executable });
  };
  const { directory, sums, fingerprint, replaced } = await packaged().finally(() =>
    rm(build, { recursive: true, force: true }),
  );
  console.log(`packaged ${directory}`);
  console.log(
    values.executable
      ? `The package for ${platform} is one executable and needs no Node.js. The others need Node.js 24 on the user's machine.`
      : "All packages need Node.js 24 on the user's machine.",
  );
  if (replaced) {
    console.log(
      `Version ${version} existed with other contents. Users with this version in a lock file can no longer install it.`,
    );
  }
  if (fingerprint !== undefined) {
    console.log(`signed by ${fingerprint}`);
    return;
  }
  console.log(`There is no signature, so only the network mirror offers the version, and the registry does not. Use --key, or sign it by hand:
  gpg --detach-sign ${sums}
  gpg --armor --export FINGERPRINT > ${join(directory, 'FINGERPRINT.asc')}`);
}

if (import.meta.main) {
  await main().catch((error: unknown) => {
    console.error(`package:provider: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  });
}
