/**
 * Creates the npm package of the constructs, for CDKTF apps outside of this repository:
 *
 *     npm run package:constructs [-- --output DIRECTORY]
 *
 *     dist/constructs/ucloud-provider-<version>.tgz
 *
 * Node does not run TypeScript in `node_modules`, so the package contains JavaScript and declarations. It is CommonJS, as
 * CDKTF is. Apps that are ES modules can import CommonJS, and so each class exists only once.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
const folders = ['constructs', 'constructs/cdktn'] as const;

/** Compiles the constructs to JavaScript and declarations. @throws Error with the output of the compiler */
async function compile(output: string): Promise<void> {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const options = {
    outDir: output,
    rootDir: 'provider',
    module: 'commonjs',
    moduleResolution: 'node10',
    target: 'es2022',
    lib: 'es2022',
    types: 'node',
  };
  const flags = [
    'strict',
    'declaration',
    'skipLibCheck',
    'allowImportingTsExtensions',
    'rewriteRelativeImportExtensions',
  ];
  await run(
    process.execPath,
    [
      tsc,
      ...folders.map((folder) => `provider/${folder}/index.ts`),
      ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]),
      ...flags.map((name) => `--${name}`),
    ],
    { cwd: root },
  ).catch((error: { stdout?: string; stderr?: string }) => {
    throw new Error(`the constructs do not compile:\n${error.stdout}${error.stderr}`, { cause: error });
  });
  for (const path of await readdir(output, { recursive: true })) {
    if (!path.endsWith('.d.ts')) continue;
    const text = await readFile(join(output, path), 'utf8');
    await writeFile(join(output, path), text.replace(/((?:from|import) '\.[^']*)\.ts'/g, "$1.js'"));
  }
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

function manifest({ name, version, license, peerDependencies }: Manifest): object {
  const entry = (folder: string) => ({ types: `./${folder}/index.d.ts`, default: `./${folder}/index.js` });
  return {
    name,
    version,
    description: 'CDKTF constructs for ucloud: VMs, groups of VMs, networks and plans of IPv6 prefixes',
    keywords: ['cdktf', 'cdktn', 'terraform', 'ucloud', 'ipv6'],
    license,
    type: 'commonjs',
    sideEffects: false,
    engines: { node: '>=20' },
    exports: {
      ...Object.fromEntries(folders.map((folder) => [`./${folder}`, entry(folder)])),
      './package.json': './package.json',
    },
    peerDependencies,
    // An app needs only one of the two.
    peerDependenciesMeta: { cdktf: { optional: true }, cdktn: { optional: true } },
  };
}

/** Creates the package and returns its path. @throws Error with the output of the compiler */
export async function packageConstructs(output: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ucloud-constructs-'));
  try {
    await compile(directory);
    const own = JSON.parse(await readFile(join(root, 'provider/package.json'), 'utf8')) as Manifest;
    await writeFile(join(directory, 'package.json'), `${JSON.stringify(manifest(own), undefined, 2)}\n`);
    await cp(join(root, 'LICENSE'), join(directory, 'LICENSE'));
    // The package does not contain the targets of links to the rest of the repository.
    const readme = await readFile(join(root, 'provider/constructs/README.md'), 'utf8');
    await writeFile(join(directory, 'README.md'), readme.replace(/\[([^\]]+)\]\(\.\.[^)]*\)/g, '$1'));
    await mkdir(output, { recursive: true });
    const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', output], {
      cwd: directory,
    });
    const [made] = JSON.parse(stdout) as { filename: string }[];
    if (!made) throw new Error(`npm pack created no package: ${stdout}`);
    return join(output, made.filename);
  } finally {
    await rm(directory, { recursive: true });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { output: { type: 'string', default: join(root, 'dist/constructs') } } });
  console.log(await packageConstructs(values.output));
}
