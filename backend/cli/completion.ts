/**
 * The next possible words of a command line, for the completion of shells. They come from the commands and therefore
 * from the contract. Names come from the API within a second. A failure gives no candidates.
 */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command, Option } from 'commander';
import { endpoints } from '../contract/index.ts';
import { call } from './client.ts';
import { scripts } from './completion-scripts.ts';
import { FieldOption, namesPathOf } from './request.ts';
import { projectNamed } from './resources.ts';
import { say, writeOut } from './standard-output.ts';
import { visible } from './terminal.ts';
import { type JsonSchema, solid } from './values.ts';

/** The maximum time for names in milliseconds. A slow connection may need more. */
const longest = (): number => Number(process.env.UCLOUD_COMPLETION_TIMEOUT ?? 1) * 1000 || 1000;
/** The maximum number of names. A user with more names types another letter. */
const maxNames = 500;

interface Candidate {
  readonly value: string;
  readonly description?: string;
}
/** `files` tells the shell to complete file names. */
type Candidates = readonly Candidate[] | 'files';

/** Other characters could have a meaning in the shell. */
const isPlain = (text: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text);

async function namesAt(path: string, asked: string | undefined): Promise<Candidate[]> {
  const list = endpoints.find((endpoint) => endpoint.method === 'GET' && endpoint.path === path);
  if (!list) return [];
  const project = list.query?.properties.project ? await projectNamed(asked) : undefined;
  const answer = await call({ method: 'GET', path, query: { limit: String(maxNames), project } });
  const { items } = answer as { items: readonly { readonly id?: string; readonly name?: string }[] };
  return items
    .flatMap(({ id, name = id }) => (name !== undefined && isPlain(name) ? [{ value: name }] : []))
    .toSorted((a, b) => (a.value < b.value ? -1 : 1));
}

/** Returns the kind of object whose ids the option takes. */
function referenceOf(schema: JsonSchema): string | undefined {
  const inner = solid(schema);
  if (inner.type !== 'array') return inner['x-reference'];
  const [only] = inner.items?.required ?? [];
  return inner.items?.['x-reference'] ?? (only && inner.items?.properties?.[only]?.['x-reference']);
}

/** Completes file names after `@`, which shells do not do. */
function filesAfterAt(word: string): Candidate[] {
  const typed = word.slice(1);
  const directory = typed.endsWith('/') ? typed : dirname(typed || 'x');
  return readdirSync(directory, { withFileTypes: true })
    .filter(({ name }) => isPlain(name))
    .map((entry) => join(directory, entry.name) + (entry.isDirectory() ? '/' : ''))
    .map((path) => ({ value: `@${typed.startsWith('./') ? './' : ''}${path}` }));
}

async function valuesOf(option: Option, word: string, project: string | undefined): Promise<Candidates> {
  if (option.argChoices) return option.argChoices.map((value) => ({ value }));
  if (option.long === '--project') return namesAt('/v1/projects', undefined);
  if (!(option instanceof FieldOption)) return /<(file|directory)>/.test(option.flags) ? 'files' : [];
  if (word.startsWith('@')) return filesAfterAt(word);
  const { type } = solid(option.schema);
  if (type === 'boolean') return [{ value: 'true' }, { value: 'false' }];
  const noun = referenceOf(option.schema);
  const path = endpoints.find(({ id }) => id === `${noun}_list`)?.path;
  if (path === undefined) return [];
  const names = await namesAt(path, noun === 'project' ? undefined : project);
  // In a list, the text before the last comma stays.
  const before = type === 'array' ? word.slice(0, word.lastIndexOf(',') + 1) : '';
  return names.map(({ value }) => ({ value: before + value }));
}

const withoutEquals = (words: readonly string[]): string[] =>
  // Shells that split words at "=" pass it as a separate word.
  words.flatMap((word, i) =>
    word === '=' && words[i - 1]?.startsWith('--') ? (i === words.length - 1 ? [''] : []) : [word],
  );

/** Returns the candidates for the last word. @param typed the words after the command */
export async function candidatesFor(program: Command, typed: readonly string[]): Promise<Candidates> {
  const words = withoutEquals(typed);
  const word = words.pop() ?? '';
  let command = program;
  let awaiting: Option | undefined;
  let project: string | undefined;
  let operands = 0;
  const used = new Set<string>();
  for (const each of words) {
    if (awaiting) {
      if (awaiting.long === '--project') project = each;
      awaiting = undefined;
    } else if (each.startsWith('--')) {
      const [flag = '', value] = each.split(/=(.*)/s);
      const option = command.options.find(({ long }) => long === flag);
      used.add(flag);
      if (flag === '--project' && value !== undefined) project = value;
      if (option?.required && value === undefined) awaiting = option;
    } else {
      const inner = command.commands.find((own) => own.name() === each);
      if (inner) command = inner;
      else operands++;
    }
  }
  if (awaiting) return valuesOf(awaiting, word, project);
  const [, flag, value] = /^(--[^=]+)=(.*)$/s.exec(word) ?? [];
  if (flag !== undefined && value !== undefined) {
    const option = command.options.find(({ long }) => long === flag);
    const values = option ? await valuesOf(option, value, project) : [];
    return values === 'files' ? [] : values.map((each) => ({ ...each, value: `${flag}=${each.value}` }));
  }
  if (word.startsWith('-')) {
    return command.options
      .filter(({ long, hidden }) => long && !hidden && !used.has(long))
      .map(({ long, description }) => ({ value: long ?? '', description }));
  }
  if (command.commands.length > 0) {
    return command
      .createHelp()
      .visibleCommands(command)
      .map((own) => ({ value: own.name(), description: own.description() }));
  }
  const argument = command.registeredArguments[Math.min(operands, command.registeredArguments.length - 1)];
  if (!argument || (operands >= command.registeredArguments.length && !argument.variadic)) return [];
  if (argument.name() === 'file') return 'files';
  if (argument.argChoices) return argument.argChoices.map((each) => ({ value: each }));
  const path = namesPathOf(command);
  return path === undefined || (operands > 0 && !argument.variadic) ? [] : namesAt(path, project);
}

/** Returns the first sentence, shortened for one line. */
const summary = (text: string): string =>
  visible(/^.*?[.:;](?=\s|$)/.exec(text)?.[0].slice(0, -1) ?? text).slice(0, 80);

async function complete(program: Command, words: readonly string[]): Promise<void> {
  const word = words.at(-1) ?? '';
  // A shell waits for its completions, so a slow API must end with none.
  const limit = new Promise<Candidates>((resolve) => setTimeout(resolve, longest(), []));
  const found = await Promise.race([candidatesFor(program, words), limit]).catch((): Candidates => []);
  if (found === 'files') return say(':files');
  const fitting = found.filter(({ value }) => word === '=' || value.startsWith(word));
  if (fitting.some(({ value }) => /[/]$/.test(value))) say(':nospace');
  writeOut(fitting.map(({ value, description = '' }) => `${value}\t${summary(description)}\n`).join(''));
}

/** Adds `ucloud completion` and the hidden command of the scripts. */
export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print the script that completes commands, options and names: see docs/operating.md')
    .addArgument(program.createArgument('<shell>', 'of which shell').choices(Object.keys(scripts)))
    .action((shell: keyof typeof scripts) => writeOut(scripts[shell]));
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action(async (words: readonly string[]) => {
      await complete(program, words).catch(() => undefined);
      // The process does not wait for a late response.
      process.exit(0);
    });
}
