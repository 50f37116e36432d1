/**
 * One executable file with Node.js and a program: Node's "single executable application"
 * (https://nodejs.org/docs/latest-v24.x/api/single-executable-applications.html), for Linux on the current
 * processor. The file contains the Node that runs this module.
 *
 * The same program and the same Node result in the same bytes.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withNote } from './elf.ts';

const run = promisify(execFile);

/** The name of the note with the program, and the text in Node's binary whose last digit says that it has a program. */
const noteName = 'NODE_SEA_BLOB';
const fuse = Buffer.from('NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:');

/** True if this machine can create executables, for one of the platforms of packages. */
export const canMakeExecutable = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);

/** The name of the program in stack traces. */
const programName = 'provider.cjs';

/**
 * Compiles all functions of `program.js` into `code`, for Node with the options of the executable.
 *
 * By default, V8 compiles a function at its first call, and Node's own `useCodeCache` contains only functions that V8
 * compiles at once. Compiled code is valid only with the same V8 flags, so the flag of eager compilation is reset before V8
 * writes the code. Compiled code contains hashes with a random seed. `--random-seed=1` makes the code the same each time,
 * and Node still accepts it with another seed. After `--hash-seed`, Node would not accept it.
 */
const compiler = `
const { readFileSync, writeFileSync } = require('node:fs');
const { setFlagsFromString } = require('node:v8');
const { Script } = require('node:vm');
setFlagsFromString('--no-lazy');
const script = new Script(readFileSync('program.js', 'latin1'), { filename: '${programName}' });
setFlagsFromString('--lazy');
writeFileSync('code', script.createCachedData());
`;

/** Fails if V8 does not accept the compiled code, because the executable would start slowly. */
const verifier = `
const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');
const options = { filename: '${programName}', cachedData: readFileSync('code') };
if (new Script(readFileSync('program.js', 'latin1'), options).cachedDataRejected) process.exit(1);
`;

/** Starts the program inside the executable. */
const start = `
const { getRawAsset } = require('node:sea');
const { Script } = require('node:vm');
const source = Buffer.from(getRawAsset('program')).latin1Slice();
const options = { filename: '${programName}', cachedData: Buffer.from(getRawAsset('code')) };
new Script(source, options).runInThisContext()(exports, require, module);
`;

/**
 * Returns the program with its compiled code, in the form that Node expects in its executable.
 * @throws Error if the program is not ASCII, or if V8 refuses the compiled code
 */
async function prepare(program: string, nodeOptions: readonly string[]): Promise<Buffer> {
  // In ASCII, each character is one byte, and Node need not decode the program.
  if (/[^\0-\x7f]/.test(program)) throw new Error('the program of an executable must be ASCII');
  const directory = await mkdtemp(join(tmpdir(), 'ucloud-executable-'));
  const node = (...args: string[]) => run(process.execPath, args, { cwd: directory, env: {} });
  try {
    const configuration = {
      // A relative path, because the result contains the path.
      main: 'start.js',
      output: 'blob',
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      execArgv: nodeOptions,
      // NODE_OPTIONS is meant for the user's own Node, not for this program.
      execArgvExtension: 'none',
      assets: { program: 'program.js', code: 'code' },
    };
    await writeFile(join(directory, 'program.js'), `(function (exports, require, module) {${program}\n})`);
    await node('--random-seed=1', '--eval', compiler);
    await node(...nodeOptions, '--eval', verifier).catch((cause: unknown) => {
      throw new Error(`V8 refuses compiled code with the options ${nodeOptions.join(' ')}`, { cause });
    });
    await writeFile(join(directory, configuration.main), start);
    await writeFile(join(directory, 'configuration.json'), JSON.stringify(configuration));
    await node('--random-seed=1', '--experimental-sea-config', 'configuration.json');
    return await readFile(join(directory, configuration.output));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Marks the binary of Node as one with a program. */
function lightFuse(executable: Buffer): void {
  const at = executable.indexOf(fuse);
  const state = at + fuse.length;
  if (at === -1 || executable.indexOf(fuse, state) !== -1 || executable[state] !== '0'.charCodeAt(0)) {
    throw new Error(`this Node.js cannot become a single executable: ${process.execPath}`);
  }
  executable[state] = '1'.charCodeAt(0);
}

/**
 * Returns the content of the executable file.
 * @param program CommonJS in one file, in ASCII, which requires only modules of Node
 * @param nodeOptions the options of Node in the executable
 * @throws Error if this is not Linux, if the running Node was not built for it, or if V8 refuses the compiled code
 */
export async function makeExecutable(program: string, nodeOptions: readonly string[]): Promise<Buffer> {
  if (!canMakeExecutable) {
    throw new Error(
      `this platform, ${process.platform} (${process.arch}), cannot create executables. Use Linux on x64 or arm64`,
    );
  }
  const executable = withNote(await readFile(process.execPath), noteName, await prepare(program, nodeOptions));
  lightFuse(executable);
  return executable;
}
