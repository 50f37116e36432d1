/**
 * One executable file that holds Node.js and a program: Node's "single executable application"
 * (https://nodejs.org/docs/latest-v24.x/api/single-executable-applications.html), for Linux on the processor that this
 * runs on. The Node that runs this goes into it.
 *
 * The same program and the same Node make the same bytes.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withNote } from './elf.ts';

const run = promisify(execFile);

/** Where Node looks for its program, and the text in its binary whose last digit says that there is one. */
const noteName = 'NODE_SEA_BLOB';
const fuse = Buffer.from('NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:');

/** Whether executables can be made here, for one of the platforms that packages are made for. */
export const canMakeExecutable = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);

/** The program, as Node expects it in its executable, with its compiled code. */
async function prepare(program: string, nodeOptions: readonly string[]): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), 'ucloud-executable-'));
  try {
    const configuration = {
      // Relative, since the path becomes part of the result.
      main: 'provider.cjs',
      output: 'program',
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      execArgv: nodeOptions,
      // NODE_OPTIONS is what users want of their Node, not of this program.
      execArgvExtension: 'none',
    };
    await writeFile(join(directory, configuration.main), program);
    await writeFile(join(directory, 'configuration.json'), JSON.stringify(configuration));
    // Compiled code contains hashes whose seed is random. This makes it the same each time, and Node still accepts it
    // when it runs with another seed, which it does not after --hash-seed.
    const options = ['--random-seed=1', '--experimental-sea-config', 'configuration.json'];
    await run(process.execPath, options, { cwd: directory, env: {} });
    return await readFile(join(directory, configuration.output));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Says that the binary of Node holds a program. */
function lightFuse(executable: Buffer): void {
  const at = executable.indexOf(fuse);
  const state = at + fuse.length;
  if (at === -1 || executable.indexOf(fuse, state) !== -1 || executable[state] !== '0'.charCodeAt(0)) {
    throw new Error(`this Node.js cannot become a single executable: ${process.execPath}`);
  }
  executable[state] = '1'.charCodeAt(0);
}

/**
 * The content of the executable file.
 * @param program CommonJS in one file, which requires nothing but modules of Node
 * @param nodeOptions with which Node starts
 * @throws Error if this is not Linux, or the running Node was not built for it
 */
export async function makeExecutable(program: string, nodeOptions: readonly string[]): Promise<Buffer> {
  if (!canMakeExecutable) {
    throw new Error(`single executables are made on Linux, not on ${process.platform} (${process.arch})`);
  }
  const executable = withNote(await readFile(process.execPath), noteName, await prepare(program, nodeOptions));
  lightFuse(executable);
  return executable;
}
