/** `ucloud image import`: brings a file of this machine to the image scanner and makes an image of it. */
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
  readonly waitTimeout: number;
  readonly json?: boolean;
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  return hash.digest('hex');
}

/** After its content, so that a file is there once however often it is imported, and nobody's is written over. */
const fileNameFor = (file: string, sha256: string): string => {
  const readable = basename(file).replace(/[^A-Za-z0-9._-]/g, '-');
  return `${sha256.slice(0, 16)}-${readable}`.slice(0, 128);
};

/** The project that creations go to: the one named, that of the token, or that of the credentials. */
async function projectOf(asked: string | undefined): Promise<string> {
  if (asked !== undefined) return idOf('project', asked, undefined);
  const token = (await call({ method: 'GET', path: '/v1/token' })) as { readonly project?: string };
  if (token.project) return token.project;
  const { project } = readCredentials();
  if (project === undefined) throw new Error('say the --project: the token is an operator’s and belongs to none');
  return idOf('project', project, undefined);
}

async function importImage(file: string, options: ImportOptions): Promise<void> {
  const { data, name, visibility, architecture } = options;
  const { files } = layout(data);
  if (!statSync(file).isFile()) throw new Error(`${file} is not a regular file`);
  if (!existsSync(files)) {
    throw new Error(`there is no ${files}: run this where the image scanner runs, with the --data that it has`);
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
    // Shares the blocks where the file system can.
    copyFileSync(file, draft, constants.COPYFILE_FICLONE);
    renameSync(draft, target);
  }
  const created = await call({
    method: 'POST',
    path: '/v1/images',
    body: { name, project, source: `file:${source}`, sha256, visibility, architecture },
  }).catch((error: unknown) => {
    if (isNew) rmSync(target, { force: true });
    throw error;
  });
  // The copy stays: should the image store lose the image, the scanner imports it again.
  const { id } = created as Waited;
  const waited = await goingOn(
    () =>
      `Image ${name} (${id}) has been created, and its import goes on without this command.\n  look at it:  ucloud image get ${id}\n  delete it:   ucloud image delete ${id}`,
    () => waitFor('/v1/images', created as Waited, 'settled', options.waitTimeout),
  );
  await print(waited, options);
}

/** Below `ucloud image`, beside the commands of the API's images. */
export function addImageImport(program: Command): void {
  const image = program.commands.find((command) => command.name() === 'image') ?? program.command('image');
  image
    .command('import')
    .description('Make an image of a file, on the machine where the image scanner runs')
    .argument('<file>', 'disk image, raw or qcow2')
    .requiredOption('--name <name>', 'name of the image')
    .option('--project <id or name>', 'owner of the image. Default: the project of the token or the credentials')
    .addOption(
      new Option('--visibility <kind>', 'public: every project can use it. Only operators may say so')
        .choices(['project', 'public'])
        .default('project'),
    )
    .addOption(new Option('--architecture <kind>', 'of its programs').choices(architectures).default('x86_64'))
    .option('--data <directory>', 'data directory of the image scanner', defaultDataDirectory())
    .addOption(waitLimit())
    .option('--json', 'print JSON')
    .action(importImage);
}
