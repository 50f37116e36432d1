/**
 * Runs a guide as its reader would: top to bottom, in one shell.
 *
 * - A block of `sh` is run by bash, which ends at the first command that fails. Directory and exported variables carry
 *   over to the next block.
 * - A block of another language that begins with `# <file>` becomes that file.
 * - Every line of a block of `text` has to be in what the block before it printed; `…` stands for anything, and white
 *   space does not count.
 *
 * A remark above a block says what is special about it:
 *
 *     <!-- ends with 1 -->                  the exit code, if it is not 0
 *     <!-- in a terminal of its own -->     runs on, beside what follows
 *     <!-- after the cloud has ended -->    those are ended first
 *     <!-- set-up -->                       done by `npm test` itself before the first test
 *     <!-- with QEMU -->                    left out where VMs are simulated
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Test } from 'tap';
import { until } from './eventually.ts';

export interface GuideBlock {
  readonly language: string;
  readonly text: string;
  /** What the remark above it says. */
  readonly remark: string;
  /** Of its first line, from 1. */
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

const remarks = /^$|^(ends with \d+|in a terminal of its own|after the cloud has ended|set-up|with QEMU)$/;

export interface GuideOptions {
  /** Directory of the first command. */
  readonly directory: string;
  readonly environment: NodeJS.ProcessEnv;
  /** Whether VMs are real ones. */
  readonly qemu: boolean;
  /** What is otherwise here than for the reader, such as the host name of the cloud: changes the text of each block. */
  readonly adapt?: (text: string) => string;
}

/** The lines of `expected` that are not in `output`. */
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

interface Terminal {
  readonly child: ChildProcess;
  readonly output: () => string;
}

/** Runs the guide. Each block is an assertion that names its line. Ends at the first block that fails. */
export async function runGuide(t: Test, file: string, scratch: string, options: GuideOptions): Promise<void> {
  const [variables, directory] = [join(scratch, 'variables'), join(scratch, 'directory')];
  writeFileSync(directory, options.directory);
  const terminals: Terminal[] = [];

  const start = (commands: string): Terminal => {
    const child = spawn('bash', ['-c', `set -e -o pipefail\n${commands}`], {
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

  let before: Terminal | undefined;
  let leftOut = false;
  for (const { language, text: written, remark, line } of guideBlocks(readFileSync(file, 'utf8'))) {
    const text = options.adapt?.(written) ?? written;
    const where = `${file}:${line}`;
    if (!remarks.test(remark)) throw new Error(`${where}: the remark "${remark}" means nothing`);
    const name = /^# (\S+)\n/.exec(text)?.[1];
    if (language === 'text' && leftOut) {
      t.comment(`${where}: so is what it prints`);
    } else if (language === 'text') {
      const missing = () => missingLines(text, before?.output() ?? '');
      // What runs on may have yet to say it.
      if (before?.child.exitCode === null) await until(`${where}: is printed`, () => missing().length === 0, 60);
      if (!t.strictSame(missing(), [], `${where}: is printed`)) throw new Error(before?.output().slice(-4000));
    } else if (language !== 'sh' && name !== undefined) {
      const path = join(readFileSync(directory, 'utf8').trim(), name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    } else if (language !== 'sh') {
      throw new Error(`${where}: a block of ${language} begins with its file: # <name>`);
    } else if (remark === 'set-up' || (remark === 'with QEMU' && !options.qemu)) {
      leftOut = true;
      t.comment(`${where}: ${remark === 'set-up' ? 'is done before all tests' : 'needs real VMs'}: ${text.trim()}`);
    } else if (remark === 'in a terminal of its own') {
      leftOut = false;
      before = start(text);
      terminals.push(before);
    } else {
      leftOut = false;
      if (remark === 'after the cloud has ended') await end();
      const carried = existsSync(variables) ? `source ${variables}\n` : '';
      const kept = `trap 'declare -px > ${variables}; pwd > ${directory}' EXIT\n`;
      const run = start(`${carried}${kept}${text}`);
      before = run;
      const code = await ended(run);
      const expected = Number(/^ends with (\d+)$/.exec(remark)?.[1] ?? 0);
      if (!t.equal(code, expected, `${where}: ${text.trim().split('\n')[0]}`))
        throw new Error(run.output().slice(-4000));
    }
  }
}
