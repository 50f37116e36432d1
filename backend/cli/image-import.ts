/** `ucloud image import`: copies a local file to the image scanner, and creates an image from it. */
import { createHash } from 'node:crypto';
import {
  constants,
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { type Command, Option } from 'commander';
import { architectures } from '../contract/resources/images.ts';
import { call } from './client.ts';
import { readCredentials } from './credentials.ts';
import { defaultDataDirectory, layout } from './layout.ts';
import { idOf } from './names.ts';
import { print } from './output.ts';
import { waitLimit } from './resources.ts';
import { goingOn } from './under-way.ts';
import { type Waited, waitFor } from './wait.ts';

interface ImportOptions {
  readonly name: string;
  readonly data: string;
  readonly project?: string;
  readonly visibility: string;
  readonly architecture: string;
  readonly family?: string;
  readonly waitTimeout: number;
  readonly json?: boolean;
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  return hash.digest('hex');
}

/**
 * Returns a name with the digest of the content. A repeated import uses the same file, and no other file is
 * overwritten.
 */
const fileNameFor = (file: string, sha256: string): string => {
  const readable = basename(file).replace(/[^A-Za-z0-9._-]/g, '-');
  return `${sha256.slice(0, 16)}-${readable}`.slice(0, 128);
};

/** Returns the project of the creation: that of the option, of the token, or of the credentials. */
export async function projectOf(asked: string | undefined): Promise<string> {
  if (asked !== undefined) return idOf('project', asked, undefined);
  const token = (await call({ method: 'GET', path: '/v1/token' })) as { readonly project?: string };
  if (token.project) return token.project;
  const { project } = readCredentials();
  if (project === undefined) throw new Error('set --project: the token of an operator belongs to no project');
  return idOf('project', project, undefined);
}

async function importImage(file: string, options: ImportOptions): Promise<void> {
  const { data, name, visibility, architecture, family } = options;
  const { files } = layout(data);
  if (!statSync(file).isFile()) throw new Error(`${file} is not a regular file`);
  if (!existsSync(files)) {
    throw new Error(`${files} does not exist: run this on the machine of the image scanner, with its --data`);
  }
  const project = await projectOf(options.project);
  const sha256 = await sha256Of(file);
  const directory = join(files, project);
  const source = fileNameFor(file, sha256);
  const target = join(directory, source);
  const isNew = !existsSync(target);
  if (isNew) {
    mkdirSync(directory, { recursive: true });
    const draft = `${target}.part`;
    // The copy shares its blocks if the file system supports this.
    copyFileSync(file, draft, constants.COPYFILE_FICLONE);
    renameSync(draft, target);
  }
  const created = await call({
    method: 'POST',
    path: '/v1/images',
    body: { name, project, source: `file:${source}`, sha256, visibility, architecture, family },
  }).catch((error: unknown) => {
    if (isNew) rmSync(target, { force: true });
    throw error;
  });
  // The copy stays, so the scanner can import it again if the image store loses the image.
  const { id } = created as Waited;
  const waited = await goingOn(
    () =>
      `Image ${name} (${id}) has been created. Its import continues without this command.\n  look at it:  ucloud image get ${id}\n  delete it:   ucloud image delete ${id}`,
    () => waitFor('/v1/images', created as Waited, 'settled', options.waitTimeout),
  );
  await print(waited, options);
}

/** Adds the command to `ucloud image`, beside the commands of the API. */
export function addImageImport(program: Command): void {
  const image = program.commands.find((command) => command.name() === 'image') ?? program.command('image');
  image
    .command('import')
    .description('Make an image of a file, on the machine where the image scanner runs')
    .argument('<file>', 'disk image: qcow2, raw, VMDK, VDI or VHDX, also compressed with gzip, xz or zstd')
    .requiredOption('--name <name>', 'name of the image')
    .option('--project <id or name>', 'project of the image. Default: that of the token or the credentials')
    .addOption(
      new Option('--visibility <kind>', 'public: every project can use the image. Only operators may set this')
        .choices(['project', 'public'])
        .default('project'),
    )
    .addOption(new Option('--architecture <kind>', 'of its programs').choices(architectures).default('x86_64'))
    .option('--family <name>', 'family of the image, such as debian-12')
    .option('--data <directory>', 'data directory of the image scanner', defaultDataDirectory())
    .addOption(waitLimit())
    .option('--json', 'print JSON')
    .action(importImage);
}
