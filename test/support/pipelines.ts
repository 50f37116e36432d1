/**
 * The features of GitHub Actions and GitLab CI that docs/guides/ci-cd uses. This module reads pipelines from their files,
 * checks them, and runs them job by job. The shell of the CI system runs the unchanged scripts. This module does the work of
 * the runners: it checks out, and passes artifacts and variables. Any other feature in the files is an error.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

export type Variables = Readonly<Record<string, string>>;

export interface PipelineEvent {
  readonly event: 'merge request' | 'push to main' | 'schedule';
}

interface ScriptStep {
  readonly kind: 'script';
  readonly name: string;
  readonly script: string;
  readonly environment: Variables;
}
interface UploadStep {
  readonly kind: 'upload';
  readonly name: string;
  readonly paths: readonly string[];
}
interface DownloadStep {
  readonly kind: 'download';
  readonly name: string;
}
type PipelineStep = ScriptStep | UploadStep | DownloadStep;
export interface PipelineJob {
  readonly name: string;
  readonly environment: string | undefined;
  readonly steps: readonly PipelineStep[];
}

type Json = Readonly<Record<string, unknown>>;
const object = (value: unknown): Json => (value !== null && typeof value === 'object' ? (value as Json) : {});
const strings = (value: unknown): Record<string, string> =>
  Object.fromEntries(Object.entries(object(value)).map(([name, text]) => [name, String(text)]));
const list = (value: unknown): readonly unknown[] =>
  Array.isArray(value) ? value : value === undefined ? [] : [value];

/** Checks the keys of an object. @throws Error that names a misspelt or unsupported key */
function only(where: string, value: unknown, known: readonly string[]): Json {
  const found = object(value);
  const strange = Object.keys(found).filter((name) => !known.includes(name));
  if (strange.length > 0) throw new Error(`${where}: ${strange.join(', ')} is not known here`);
  return found;
}

/** Evaluates `A == B && C != D`. Each side is a quoted text, or a name that `look` resolves. */
function holds(condition: string, look: (name: string) => string): boolean {
  return condition.split('&&').every((part) => {
    const [, left = '', operator, right = ''] = /^\s*(\S+)\s*(==|!=)\s*(\S+)\s*$/.exec(part) ?? [];
    if (operator === undefined) throw new Error(`the condition "${condition}" is not known here`);
    const side = (text: string) => (/^(['"]).*\1$/.test(text) ? text.slice(1, -1) : look(text));
    return (side(left) === side(right)) === (operator === '==');
  });
}

export interface GithubContext extends PipelineEvent {
  readonly vars: Variables;
  readonly secrets: Variables;
  /** Secrets of an environment, for jobs that name it. */
  readonly environments: Readonly<Record<string, Variables>>;
}

/** Returns the jobs of a workflow that an event starts, in the order of the file. */
export function githubJobs(file: string, context: GithubContext): PipelineJob[] {
  const workflow = only(file, parse(readFileSync(file, 'utf8')), [
    'name',
    'on',
    'permissions',
    'concurrency',
    'env',
    'jobs',
  ]);
  const eventName = { 'merge request': 'pull_request', 'push to main': 'push', schedule: 'schedule' }[context.event];
  const triggers = only('on', workflow.on, ['pull_request', 'push', 'schedule']);
  if (!(eventName in triggers)) return [];
  const ref = context.event === 'merge request' ? 'refs/pull/1/merge' : 'refs/heads/main';

  const looker = (secrets: Variables) => (name: string) => {
    const [space, key = ''] = name.split('.');
    const github: Variables = { event_name: eventName, ref };
    const found = { github, vars: context.vars, secrets }[space ?? ''];
    if (found === undefined) throw new Error(`${file}: the expression ${name} is not known here`);
    return found[key] ?? '';
  };
  const filled = (value: unknown, look: (name: string) => string): Record<string, string> =>
    Object.fromEntries(
      Object.entries(strings(value)).map(([name, text]) => [
        name,
        text.replace(/\$\{\{\s*(\S+)\s*\}\}/g, (_all, expression: string) => look(expression)),
      ]),
    );
  const needed = new Map<string, boolean>();

  return Object.entries(object(workflow.jobs)).flatMap(([name, text]): PipelineJob[] => {
    const known = ['if', 'needs', 'runs-on', 'timeout-minutes', 'environment', 'env', 'steps'];
    const job = only(name, text, known);
    const environment = job.environment === undefined ? undefined : String(job.environment);
    const look = looker({
      ...context.secrets,
      ...(environment === undefined ? {} : context.environments[environment]),
    });
    const runs =
      (job.if === undefined || holds(String(job.if), look)) &&
      list(job.needs).every((other) => needed.get(String(other)));
    needed.set(name, runs);
    if (typeof job['runs-on'] !== 'string') throw new Error(`${name}: runs-on says no runner`);
    if (!runs) return [];
    const common = { ...filled(workflow.env, look), ...filled(job.env, look) };
    const steps = list(job.steps).flatMap((raw, index): PipelineStep[] => {
      const where = `${name}, step ${index + 1}`;
      const step = only(where, raw, ['name', 'if', 'uses', 'with', 'env', 'run']);
      if (step.if !== undefined && !holds(String(step.if), look)) return [];
      if (typeof step.run === 'string') {
        // A shell would run text from an expression in a script. In the environment, it is only text.
        if (step.run.includes('${{')) throw new Error(`${where}: an expression in a script`);
        return [
          {
            kind: 'script',
            name: String(step.name),
            script: step.run,
            environment: { ...common, ...filled(step.env, look) },
          },
        ];
      }
      const [action] = String(step.uses).split('@');
      const { name: artifact = '', path = '' } = strings(step.with);
      if (action === 'actions/upload-artifact') return [{ kind: 'upload', name: artifact, paths: [path] }];
      if (action === 'actions/download-artifact') return [{ kind: 'download', name: artifact }];
      // This machine has both programs, and the runner checks out before the first step.
      if (/^(actions\/checkout|actions\/setup-node|hashicorp\/setup-terraform)$/.test(action ?? '')) return [];
      throw new Error(`${where}: ${action} is not known here`);
    });
    return [{ name, environment, steps }];
  });
}

export interface GitlabContext extends PipelineEvent {
  /** The variables of the project. */
  readonly variables: Variables;
  /** The variables that only the default branch sees. */
  readonly protected: Variables;
}

/** Returns the jobs of a pipeline that an event starts, with the manual jobs, by stages. */
export function gitlabJobs(file: string, context: GitlabContext): PipelineJob[] {
  const pipeline = object(parse(readFileSync(file, 'utf8')));
  const { stages, workflow, variables, ...rest } = pipeline;
  const main = context.event !== 'merge request';
  const predefined: Record<string, string> = {
    CI_PIPELINE_SOURCE: { 'merge request': 'merge_request_event', 'push to main': 'push', schedule: 'schedule' }[
      context.event
    ],
    CI_DEFAULT_BRANCH: 'main',
    ...(main && { CI_COMMIT_BRANCH: 'main' }),
  };
  const look = (name: string): string => {
    if (!name.startsWith('$')) throw new Error(`${file}: ${name} is no variable`);
    return predefined[name.slice(1)] ?? '';
  };
  const started = (rules: unknown): boolean => {
    for (const raw of list(rules)) {
      const rule = only('a rule', raw, ['if', 'when']);
      if (rule.if === undefined || holds(String(rule.if), look)) return rule.when !== 'never';
    }
    return false;
  };
  if (!started(object(workflow).rules)) return [];
  const given = { ...context.variables, ...(main && context.protected) };
  const filled = (value: unknown): Record<string, string> =>
    Object.fromEntries(
      Object.entries(strings(value)).map(([name, text]) => [
        name,
        text.replace(/\$(\w+)/g, (_all, other: string) => given[other] ?? ''),
      ]),
    );
  const words = ['extends', 'image', 'interruptible', 'before_script', 'stage', 'needs', 'rules', 'environment'];
  const known = [...words, 'resource_group', 'variables', 'script', 'artifacts'];
  const order = list(stages).map(String);
  return Object.entries(rest)
    .filter(([name]) => !name.startsWith('.'))
    .map(([name, text]) => {
      const own = only(name, text, known);
      const job = { ...only(String(own.extends), rest[String(own.extends)], known), ...own };
      if (!order.includes(String(job.stage))) throw new Error(`${name}: there is no stage ${String(job.stage)}`);
      return { name, job };
    })
    .filter(({ job }) => started(job.rules))
    .toSorted((a, b) => order.indexOf(String(a.job.stage)) - order.indexOf(String(b.job.stage)))
    .map(({ name, job }): PipelineJob => {
      const script = [...list(job.before_script), ...list(job.script)].map(String).join('\n');
      const environment = { ...predefined, ...given, ...filled(variables), ...filled(job.variables) };
      const { paths } = only('artifacts', job.artifacts, ['expose_as', 'paths', 'expire_in']);
      const download = list(job.needs).map((other): DownloadStep => ({ kind: 'download', name: String(other) }));
      const upload: UploadStep[] = paths ? [{ kind: 'upload', name, paths: list(paths).map(String) }] : [];
      return {
        name,
        environment: job.environment === undefined ? undefined : String(job.environment),
        steps: [...download, { kind: 'script', name, script, environment }, ...upload],
      };
    });
}

export interface RunnerOptions {
  /** The checked-out commit. */
  readonly repository: string;
  /** The directory of the pipeline's artifacts. */
  readonly artifacts: string;
  /** The directory for the directories of the jobs. */
  readonly scratch: string;
  /** The environment of the machine. */
  readonly machine: NodeJS.ProcessEnv;
  /** Gets the output of the job while it runs. */
  readonly log?: (text: string) => void;
}

export interface JobResult {
  /** The exit code of the first script that failed; otherwise 0. */
  readonly code: number | null;
  readonly log: string;
  /** The text of a step for the summary page of the run. */
  readonly summary: string;
}

/** Runs a job in a new directory, like a new machine. */
export async function runJob(job: PipelineJob, options: RunnerOptions): Promise<JobResult> {
  const machine = mkdtempSync(join(options.scratch, `${job.name}-`));
  const [work, temporary, summary, variables] = ['work', 'temp', 'summary', 'variables'].map((name) =>
    join(machine, name),
  );
  if (!work || !temporary || !summary || !variables) throw new Error('no machine');
  cpSync(options.repository, work, { recursive: true });
  mkdirSync(temporary);
  writeFileSync(summary, '');
  writeFileSync(variables, '');
  let log = '';
  const result = (code: number | null) => ({ code, log, summary: readFileSync(summary, 'utf8') });
  for (const step of job.steps) {
    if (step.kind === 'download') {
      cpSync(join(options.artifacts, step.name), work, { recursive: true });
      continue;
    }
    if (step.kind === 'upload') {
      for (const path of step.paths.filter((each) => existsSync(join(work, each)))) {
        cpSync(join(work, path), join(options.artifacts, step.name, path), { recursive: true });
      }
      continue;
    }
    const added = readFileSync(variables, 'utf8').matchAll(/^(\w+)=(.*)$/gm);
    const child = spawn('bash', ['--noprofile', '--norc', '-eo', 'pipefail', '-c', step.script], {
      cwd: work,
      env: {
        ...options.machine,
        ...step.environment,
        ...Object.fromEntries([...added].map(([, name = '', value = '']) => [name, value])),
        HOME: machine,
        RUNNER_TEMP: temporary,
        GITHUB_ENV: variables,
        GITHUB_STEP_SUMMARY: summary,
        CI: 'true',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        log += text;
        options.log?.(text);
      });
    }
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject).on('close', resolve);
    });
    if (code !== 0) return result(code);
  }
  return result(0);
}
