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

/** Returns true if executables can be made here, for one of the platforms that packages are made for. */
export const canMakeExecutable = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);

/** The name of the program in stack traces. */
const programName = 'provider.cjs';

/**
 * Compiles all functions of `program.js` into `code`, for Node with the options of the executable.
 *
 * V8 compiles a function at its first call otherwise, and Node's own `useCodeCache` keeps only what V8 compiles at once.
 * Compiled code is valid only for the V8 flags that it was made under, so the flag of eager compilation is taken back
 * before V8 writes the code. Compiled code contains hashes whose seed is random. `--random-seed=1` makes it the same each
 * time, and Node still accepts it when it runs with another seed, which it does not after `--hash-seed`.
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

/** Fails if V8 does not accept the compiled code: the executable would work, and start slowly. */
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
 * The program with its compiled code, in the form that Node expects in its executable.
 * @throws Error if the program is not ASCII, or if V8 refuses the compiled code
 */
async function prepare(program: string, nodeOptions: readonly string[]): Promise<Buffer> {
  // Then each character is one byte, and Node need not decode the program.
  if (/[^\0-\x7f]/.test(program)) throw new Error('the program of an executable must be ASCII');
  const directory = await mkdtemp(join(tmpdir(), 'ucloud-executable-'));
  const node = (...args: string[]) => run(process.execPath, args, { cwd: directory, env: {} });
  try {
    const configuration = {
      // Relative, since the path becomes part of the result.
      main: 'start.js',
      output: 'blob',
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      execArgv: nodeOptions,
      // NODE_OPTIONS is what users want of their Node, not of this program.
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
 * @param program CommonJS in one file, in ASCII, which requires nothing but modules of Node
 * @param nodeOptions with which Node starts
 * @throws Error if this is not Linux, if the running Node was not built for it, or if V8 refuses the compiled code
 */
export async function makeExecutable(program: string, nodeOptions: readonly string[]): Promise<Buffer> {
  if (!canMakeExecutable) {
    throw new Error(`single executables are made on Linux, not on ${process.platform} (${process.arch})`);
  }
  const executable = withNote(await readFile(process.execPath), noteName, await prepare(program, nodeOptions));
  lightFuse(executable);
  return executable;
}
