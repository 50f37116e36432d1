/**
 * Follows a page like its reader: from top to bottom, in one shell.
 *
 * - Bash runs each block of `sh`, and ends at the first command that fails. The next block gets the directory and the
 *   exported variables.
 * - A block of another language that begins with `# <file>` becomes that file. Other blocks have no effect.
 * - The output of the block before it must contain every line of a block of `text`; `…` stands for any text, and white space
 *   does not count.
 *
 * A remark above a block is an instruction for the test:
 *
 *     <!-- ends with 1 -->                   the exit code, if it is not 0
 *     <!-- in a terminal of its own -->      the block keeps running during the following blocks
 *     <!-- each in a terminal of its own --> each line of the block keeps running
 *     <!-- after the cloud has ended -->     the running blocks end first
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Test } from 'tap';
import { until } from './eventually.ts';

export interface GuideBlock {
  readonly language: string;
  readonly text: string;
  /** The text of the remark above the block. */
  readonly remark: string;
  /** The number of its first line, from 1. */
  readonly line: number;
}

export function guideBlocks(markdown: string): GuideBlock[] {
  const pattern = /(?:^<!-- ([^\n]*?) -->\n+)?^```(\w+)\n(.*?)^```$/gms;
  return [...markdown.matchAll(pattern)].map((match) => {
    const [whole, remark = '', language = '', text = ''] = match;
    const begins = match.index + whole.indexOf(`\`\`\`${language}`);
    return { language, text, remark, line: markdown.slice(0, begins).split('\n').length + 1 };
  });
}

const remarks = /^$|^(ends with \d+|(?:each )?in a terminal of its own|after the cloud has ended)$/;

export interface GuideOptions {
  /** Directory of the first command. */
  readonly directory: string;
  readonly environment: NodeJS.ProcessEnv;
  /** A command that runs the command after it, in a network namespace for one. */
  readonly within?: readonly string[];
  /** Returns why the test skips a block; undefined if it does not. */
  readonly exempt?: (block: GuideBlock) => string | undefined;
  /** Adapts the text of a block to this machine, for instance the host name of the cloud. */
  readonly adapt?: (text: string) => string;
}

/** Returns the lines of `expected` that `output` does not contain. */
export function missingLines(expected: string, output: string): string[] {
  const pressed = (text: string) => stripVTControlCharacters(text).replace(/[\s│╷╵]+/g, ' ');
  const said = pressed(output);
  const pattern = (line: string) =>
    pressed(line.trim())
      .split('…')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').trim())
      .join('.*?');
  return expected.split('\n').filter((line) => line.trim() !== '' && !new RegExp(pattern(line)).test(said));
}

/** Returns the environment of the reader's shell: another home, and no settings of this machine for ucloud or Terraform. */
export function readerEnvironment(home: string): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(UCLOUD|TF|XDG)_/.test(name));
  return {
    ...Object.fromEntries(inherited),
    HOME: home,
    PATH: [resolve('node_modules/.bin'), process.env.PATH].join(delimiter),
    CHECKPOINT_DISABLE: '1',
    TF_IN_AUTOMATION: '1',
    NO_COLOR: '1',
  };
}

interface Terminal {
  readonly child: ChildProcess;
  readonly output: () => string;
}

const printedBy = (terminals: readonly Terminal[]): string => terminals.map(({ output }) => output()).join('\n');
const allRun = (terminals: readonly Terminal[]): boolean =>
  terminals.length > 0 && terminals.every(({ child }) => child.exitCode === null && child.signalCode === null);

/** Runs the guide. Each block is an assertion that names its line. Ends at the first block that fails. */
export async function runGuide(t: Test, file: string, scratch: string, options: GuideOptions): Promise<void> {
  const [variables, directory] = [join(scratch, 'variables'), join(scratch, 'directory')];
  writeFileSync(directory, options.directory);
  const terminals: Terminal[] = [];

  const start = (commands: string): Terminal => {
    const [program = '', ...args] = [...(options.within ?? []), 'bash', '-c', `set -e -o pipefail\n${commands}`];
    const child = spawn(program, args, {
      cwd: readFileSync(directory, 'utf8').trim(),
      env: options.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
    }
    return { child, output: () => printed };
  };
  const ended = ({ child }: Terminal) =>
    new Promise<number | null>((resolve, reject) => {
      if (child.exitCode !== null) resolve(child.exitCode);
      child.on('error', reject).on('close', resolve);
    });
  const end = async () => {
    for (const terminal of terminals.splice(0)) {
      const gone = ended(terminal);
      if (terminal.child.exitCode === null && terminal.child.pid !== undefined)
        process.kill(-terminal.child.pid, 'SIGTERM');
      await gone;
    }
  };
  t.teardown(end);

  /** The directory of the last commands. */
  let before: readonly Terminal[] = [];
  for (const block of guideBlocks(readFileSync(file, 'utf8'))) {
    const { language, text: written, remark, line } = block;
    const reason = options.exempt?.(block);
    if (reason !== undefined) {
      t.comment(`${file}:${line}: left out: ${reason}`);
      continue;
    }
    const text = options.adapt?.(written) ?? written;
    const where = `${file}:${line}`;
    if (!remarks.test(remark)) throw new Error(`${where}: the remark "${remark}" means nothing`);
    const name = /^# (\S+)\n/.exec(text)?.[1];
    if (language === 'text') {
      const missing = () => missingLines(text, printedBy(before));
      // A command that keeps running may print it later.
      if (allRun(before)) await until(`${where}: is printed`, () => missing().length === 0 || !allRun(before), 120);
      if (!t.strictSame(missing(), [], `${where}: is printed`)) throw new Error(printedBy(before).slice(-4000));
    } else if (language !== 'sh' && name !== undefined) {
      const path = join(readFileSync(directory, 'utf8').trim(), name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    } else if (/in a terminal of its own$/.test(remark)) {
      before = (remark.startsWith('each') ? text.trim().split('\n') : [text]).map(start);
      terminals.push(...before);
    } else if (language === 'sh') {
      if (remark === 'after the cloud has ended') await end();
      const carried = existsSync(variables) ? `source ${variables}\n` : '';
      const kept = `trap 'declare -px > ${variables}; pwd > ${directory}' EXIT\n`;
      const began = performance.now();
      const run = start(`${carried}${kept}${text}`);
      before = [run];
      const code = await ended(run);
      t.comment(`${where}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
      const expected = Number(/^ends with (\d+)$/.exec(remark)?.[1] ?? 0);
      if (!t.equal(code, expected, `${where}: ${text.trim().split('\n')[0]}`))
        throw new Error(run.output().slice(-4000));
    }
  }
  await end();
}
