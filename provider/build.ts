/**
 * Builds the provider: `npm run build:provider`.
 *
 *     dist/provider/      launcher and program, for every platform
 *     dist/executable/    on Linux: one file with the program and Node, see `buildExecutable`
 *     dist/mirror/ucloud.localhost/ucloud/ucloud/<version>/<os>_<arch>/   for `filesystem_mirror`
 *
 * The launcher is a short shell script that runs the program with the user's Node. One JavaScript file is not possible. Its
 * name ends in `.0`, and Terraform unpacks the provider inside the user's project. In a project with `"type": "module"`,
 * Node takes `.0` for an unknown file type.
 *
 * The mirror works on this machine with any Node on the PATH. Its launcher starts `dist/executable`; on a machine without
 * executables, the Node that built the provider. The executable is not in the mirror, because Terraform computes the
 * checksum of the whole package in each command. For 109 MB, that takes a tenth of the time of a plan of one VM.
 */
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { encodeSchema } from './framework/serve.ts';
import { canMakeExecutable, makeExecutable } from './packaging/executable.ts';
import { provider } from './provider.ts';
import { version } from './schema/resources.gen.ts';

const root = join(import.meta.dirname, '..');
/** The address of the provider in configurations, and its path in a mirror. */
export const address = 'ucloud.localhost/ucloud/ucloud';

/**
 * The options of Node. Most objects of the provider live for one call. V8 collects them as fast in a nursery of 4 MiB as
 * in one of 16, which saves a fifth of the memory in large applies. The nursery has this size from the start: while it
 * grows, V8 collects often, which takes a tenth of the provider's time in a plan of 200 VMs.
 */
const nodeOptions = ['--no-warnings', '--min-semi-space-size=4', '--max-semi-space-size=4'];

/**
 * The options of Node in the executable. Each start loads TLS, and Node then reads all well-known CAs in another thread.
 * That takes a tenth of a start, and few starts connect to a server. With `--use-openssl-ca`, Node does not read them, and
 * the client names its CAs itself (client/authorities.ts). The launcher omits the option, because the user's NODE_OPTIONS
 * may contain an option that excludes it.
 */
const executableOptions = [...nodeOptions, '--use-openssl-ca'];

/** Returns the text in single quotes for a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * Returns the text of a launcher. It starts the executable `own.executable` if it exists, else the program with a Node: that
 * of UCLOUD_NODE, else `own.node`, else the one on the PATH. Terraform shows the first line of standard output if
 * it is no handshake. This is the only way to tell a user that Node is missing.
 */
function launcher(own: { readonly executable?: string; readonly node?: string } = {}): string {
  const { executable, node } = own;
  return `#!/bin/sh
${executable === undefined ? '' : `[ ! -x ${quoted(executable)} ] || exec ${quoted(executable)} "$@"\n`}${
  node === undefined ? '' : `[ -n "$UCLOUD_NODE" ] || [ ! -x ${quoted(node)} ] || UCLOUD_NODE=${quoted(node)}\n`
}node=\${UCLOUD_NODE:-node}
if ! command -v "$node" > /dev/null 2>&1; then
  echo "The ucloud provider needs Node.js 24 or newer, and there is no \\"$node\\". Install it, or set UCLOUD_NODE to its path."
  exit 1
fi
exec "$node" ${nodeOptions.join(' ')} "\${0%/*}/provider.cjs" "$@"
`;
}

/** The first statement of the program, in a syntax that old versions of Node understand. Terraform shows its message. */
const versionCheck = `if (+process.versions.node.split('.')[0] < 24) { console.log('The ucloud provider needs Node.js 24 or newer, not ' + process.version + ' (' + process.execPath + '). Install it, or set UCLOUD_NODE to its path.'); process.exit(1); }`;

/** The name of the file that Terraform starts in a package. */
export const executableName = `terraform-provider-ucloud_v${version}`;
const terraformArch: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64', ia32: '386' };
/** The platform of this machine, with Terraform's names. */
export const platform = `${process.platform === 'win32' ? 'windows' : process.platform}_${terraformArch[process.arch] ?? process.arch}`;

/** The results of a build. */
export interface Built {
  /** Directory with the launcher and the program. */
  readonly directory: string;
  readonly launcher: string;
  /** Directory with the executable and its licences; undefined on platforms without executables. */
  readonly executable: string | undefined;
  /** For `filesystem_mirror { path = … }`. */
  readonly mirror: string;
}

/** Replaces the content of `directory` file by file. Each rename is atomic, so a running Terraform finds whole files. */
async function install(files: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const names = await readdir(files);
  for (const name of names) await rename(join(files, name), join(directory, name));
  for (const name of await readdir(directory))
    if (!names.includes(name)) await rm(join(directory, name), { recursive: true, force: true });
}

/** Builds launcher, executable and mirror in `dist`. */
export async function buildProvider(dist = join(root, 'dist')): Promise<Built> {
  await mkdir(dist, { recursive: true });
  const staging = await mkdtemp(join(dist, '.build-'));
  try {
    const files = join(staging, 'provider');
    await buildLauncher(files);
    const local = join(staging, 'mirror');
    await cp(files, local, { recursive: true });
    const executable = canMakeExecutable ? resolve(dist, 'executable') : undefined;
    if (executable !== undefined) {
      await buildExecutable(join(staging, 'executable'));
      await install(join(staging, 'executable'), executable);
    }
    const own =
      executable === undefined ? { node: process.execPath } : { executable: join(executable, executableName) };
    await writeFile(join(local, executableName), launcher(own), { mode: 0o755 });
    const directory = join(dist, 'provider');
    const mirror = join(dist, 'mirror');
    await install(files, directory);
    const versions = join(mirror, address);
    await install(local, join(versions, version, platform));
    for (const other of await readdir(versions))
      if (other !== version) await rm(join(versions, other), { recursive: true, force: true });
    return { directory, launcher: join(directory, executableName), executable, mirror };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

const common = {
  bundle: true,
  minify: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  legalComments: 'none',
  logLevel: 'warning',
} satisfies BuildOptions;

const entry = join(root, 'provider/main.ts');

/** Puts the encoded schema into the program: the provider answers the most frequent call from these bytes. */
async function schemaInside(): Promise<Plugin> {
  const schema = Buffer.from(await encodeSchema(provider)).toString('base64');
  return {
    name: 'schema inside',
    setup({ onLoad }) {
      onLoad({ filter: /[\\/]provider[\\/]schema[\\/]encoded-schema\.ts$/ }, () => ({
        contents: `export const encodedSchema = '${schema}';`,
      }));
    },
  };
}

const licence = () => readFile(join(root, 'LICENSE'));

/**
 * Returns the text of Node's licences, which a distributor of Node must include. The npm package of Node lacks the text, so
 * it is checked in.
 * @throws Error if the text belongs to another version, because the licences differ between versions
 */
export async function nodeLicence(version: string): Promise<string> {
  const file = `provider/packaging/node-licence-${version}.txt`;
  try {
    return await readFile(join(root, file), 'utf8');
  } catch (cause) {
    const source = `https://raw.githubusercontent.com/nodejs/node/${version}/LICENSE`;
    throw new Error(`the licence of Node ${version} is missing: create ${file} from ${source}`, { cause });
  }
}

async function buildLauncher(directory: string): Promise<void> {
  await mkdir(directory);
  await build({
    ...common,
    entryPoints: [entry],
    outfile: join(directory, 'provider.cjs'),
    banner: { js: versionCheck },
    plugins: [await schemaInside()],
  });
  await writeFile(join(directory, executableName), launcher(), { mode: 0o755 });
  await writeFile(join(directory, 'LICENSE'), await licence());
}

/**
 * Creates the directory with the executable for this platform.
 * @param program the module that the executable runs
 * @throws Error on platforms without executables
 */
export async function buildExecutable(directory: string, program = entry): Promise<void> {
  const licenceOfNode = await nodeLicence(process.version);
  const { outputFiles } = await build({
    ...common,
    entryPoints: [program],
    write: false,
    plugins: [await schemaInside()],
  });
  const executable = await makeExecutable(outputFiles.map(({ text }) => text).join(''), executableOptions);
  await mkdir(directory);
  await writeFile(join(directory, executableName), executable, { mode: 0o755 });
  await writeFile(join(directory, 'LICENSE'), await licence());
  await writeFile(join(directory, 'LICENSE.node'), licenceOfNode);
}

if (import.meta.main) {
  const { launcher: path, mirror } = await buildProvider();
  console.log(`built ${path}\nmirror ${mirror}`);
}
