/** Runs the real Terraform in a separate directory, without the user's configuration and without the network. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface TerraformOptions {
  /** The value of `TF_REATTACH_PROVIDERS` for running providers, for instance in the test itself. */
  reattach?: string;
  /** The directory of a filesystem mirror, which is the only source of providers. */
  mirror?: string;
  /** The content of the block `provider_installation`, for other sources of providers. */
  installation?: string;
  environment?: Readonly<Record<string, string>>;
}

export interface TerraformResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** One object in a plan, from `terraform show -json`. */
export interface ResourceChange {
  address: string;
  type: string;
  change: {
    actions: ('no-op' | 'create' | 'read' | 'update' | 'delete')[];
    before: Record<string, unknown> | null;
    after: Record<string, unknown> | null;
    after_unknown: Record<string, unknown>;
    replace_paths?: (string | number)[][];
  };
  action_reason?: string;
}

export interface Plan {
  resource_changes?: ResourceChange[];
  resource_drift?: ResourceChange[];
  output_changes?: Record<string, { actions: string[]; after: unknown }>;
  /** The output of Terraform, including warnings. */
  text: string;
}

/** One object in the state, from `terraform show -json`. */
export interface StateResource {
  address: string;
  mode: 'managed' | 'data';
  type: string;
  values: Record<string, unknown>;
  tainted?: boolean;
}

/** A diagnostic of `terraform … -json`. `line` is the line in the file that Terraform names. */
export interface TerraformDiagnostic {
  severity: 'error' | 'warning';
  summary: string;
  detail: string;
  address?: string;
  line?: number;
  /** The source that Terraform shows. */
  code?: string;
}

export class TerraformFailed extends Error {
  override readonly name = 'TerraformFailed';
  readonly result: TerraformResult;
  constructor(args: readonly string[], result: TerraformResult) {
    super(`terraform ${args.join(' ')} ended with ${result.code}:\n${result.stdout}\n${result.stderr}`);
    this.result = result;
  }
}

/** Returns the version of the installed Terraform; undefined if there is none. */
export function terraformVersion(): string | undefined {
  const { status, stdout } = spawnSync('terraform', ['version', '-json'], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, CHECKPOINT_DISABLE: '1', TF_CLI_CONFIG_FILE: '/dev/null' },
  });
  if (status !== 0) return undefined;
  return (JSON.parse(stdout) as { terraform_version: string }).terraform_version;
}

/**
 * The reason for `t.skip` on a machine without Terraform; otherwise undefined. With CI=true, a missing Terraform is a
 * failure.
 */
export function terraformMissing(): string | undefined {
  if (terraformVersion() !== undefined) return undefined;
  if (process.env.CI === 'true') throw new Error('terraform is not installed, and CI=true allows no skips');
  return 'SKIPPED: terraform is not installed (https://developer.hashicorp.com/terraform/install)';
}

/** A working directory with its own CLI configuration, state and home. `remove` removes it. */
export class TerraformDirectory {
  readonly path: string;
  private readonly options: TerraformOptions;
  private readonly running = new Set<ChildProcess>();

  constructor(files: Readonly<Record<string, string>>, options: TerraformOptions = {}) {
    this.path = mkdtempSync(path.join(tmpdir(), 'ucloud-terraform-'));
    this.options = options;
    mkdirSync(path.join(this.path, '.home'));
    const mirror = options.mirror ?? path.join(this.path, '.home', 'no-providers');
    mkdirSync(mirror, { recursive: true });
    const { installation = `filesystem_mirror {\n    path = ${JSON.stringify(mirror)}\n  }` } = options;
    writeFileSync(path.join(this.path, '.home', 'terraformrc'), `provider_installation {\n  ${installation}\n}\n`);
    this.write(files);
  }

  /** Writes files, for instance `main.tf`, into the directory. */
  write(files: Readonly<Record<string, string>>): void {
    for (const [name, content] of Object.entries(files)) {
      const file = path.join(this.path, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, content);
    }
  }

  /** Ends all running Terraform processes of this directory, and removes the directory. */
  remove(): void {
    for (const { pid } of this.running) if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    rmSync(this.path, { recursive: true, force: true });
  }

  private get environment(): NodeJS.ProcessEnv {
    return {
      PATH: process.env.PATH,
      HOME: path.join(this.path, '.home'),
      TMPDIR: process.env.TMPDIR ?? '/tmp',
      CHECKPOINT_DISABLE: '1',
      TF_CLI_CONFIG_FILE: path.join(this.path, '.home', 'terraformrc'),
      TF_IN_AUTOMATION: '1',
      TF_INPUT: '0',
      ...(this.options.reattach !== undefined && { TF_REATTACH_PROVIDERS: this.options.reattach }),
      ...this.options.environment,
    };
  }

  /** Starts Terraform in its own process group, so that a test can send it signals like a terminal. */
  start(...args: string[]): { child: ChildProcess; result: Promise<TerraformResult> } {
    const child = spawn('terraform', args, {
      cwd: this.path,
      env: this.environment,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.running.add(child);
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const result = new Promise<TerraformResult>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => {
        this.running.delete(child);
        resolve({ code, stdout, stderr });
      });
    });
    return { child, result };
  }

  /** Runs Terraform and returns its result, also after a failure. */
  async try(...args: string[]): Promise<TerraformResult> {
    return this.start(...args).result;
  }

  /** Runs Terraform and returns its output. @throws TerraformFailed */
  async run(...args: string[]): Promise<string> {
    const result = await this.try(...args);
    if (result.code !== 0) throw new TerraformFailed(args, result);
    return result.stdout;
  }

  /** Plans, and returns the plan. @throws TerraformFailed */
  async plan(...args: string[]): Promise<Plan> {
    const text = await this.run('plan', '-no-color', '-out=test.tfplan', ...args);
    const plan = JSON.parse(await this.run('show', '-json', 'test.tfplan')) as Plan;
    return { ...plan, text };
  }

  /** Returns the actions of the next apply on a resource. */
  async planned(address: string): Promise<NonNullable<Plan['resource_changes']>[number]['change']> {
    const found = (await this.plan()).resource_changes?.find((one) => one.address === address);
    if (!found) throw new Error(`${address} is not in the plan`);
    return found.change;
  }

  /** Returns a resource of the state. */
  async resource(address: string): Promise<StateResource> {
    const found = (await this.state()).find((one) => one.address === address);
    if (!found) throw new Error(`${address} is not in the state`);
    return found;
  }

  /** Returns the actions of the next apply on resources and outputs, as `address: action`; empty if there are none. */
  async pending(...args: string[]): Promise<string[]> {
    const planning = ['plan', '-no-color', '-out=test.tfplan', '-detailed-exitcode', ...args];
    const result = await this.try(...planning);
    if (result.code === 0) return []; // exit code 0 means no actions, so the plan need not be read
    if (result.code !== 2) throw new TerraformFailed(planning, result);
    return changes(JSON.parse(await this.run('show', '-json', 'test.tfplan')) as Plan);
  }

  async apply(...args: string[]): Promise<string> {
    return this.run('apply', '-no-color', '-auto-approve', ...args);
  }

  async destroy(...args: string[]): Promise<string> {
    return this.run('destroy', '-no-color', '-auto-approve', ...args);
  }

  /** Returns the objects in the state, with those of modules. */
  async state(): Promise<StateResource[]> {
    interface Module {
      resources?: StateResource[];
      child_modules?: Module[];
    }
    const { values } = JSON.parse(await this.run('show', '-json')) as { values?: { root_module: Module } };
    const collect = (module: Module): StateResource[] => [
      ...(module.resources ?? []),
      ...(module.child_modules ?? []).flatMap(collect),
    ];
    return values ? collect(values.root_module) : [];
  }

  async outputs(): Promise<Record<string, unknown>> {
    const json = JSON.parse(await this.run('output', '-json')) as Record<string, { value: unknown }>;
    return Object.fromEntries(Object.entries(json).map(([name, { value }]) => [name, value]));
  }

  /** Runs `validate`, `plan`, `apply` or `destroy`, and returns its diagnostics, also after a failure. */
  async diagnostics(
    command: 'validate' | 'plan' | 'apply' | 'destroy',
    ...args: string[]
  ): Promise<TerraformDiagnostic[]> {
    const approve = command === 'apply' || command === 'destroy' ? ['-auto-approve'] : [];
    const { stdout } = await this.try(command, '-json', ...approve, ...args);
    interface Raw {
      severity: 'error' | 'warning';
      summary: string;
      detail?: string;
      address?: string;
      range?: { start: { line: number } };
      snippet?: { code: string };
    }
    const raw: Raw[] =
      command === 'validate'
        ? (JSON.parse(stdout) as { diagnostics: Raw[] }).diagnostics
        : stdout
            .split('\n')
            .filter((line) => line.startsWith('{'))
            .flatMap((line) => {
              const { diagnostic } = JSON.parse(line) as { diagnostic?: Raw };
              return diagnostic ? [diagnostic] : [];
            });
    return raw.map(({ severity, summary, detail = '', address, range, snippet }) => ({
      severity,
      summary,
      detail,
      ...(address !== undefined && { address }),
      ...(range && { line: range.start.line }),
      ...(snippet && { code: snippet.code.trim() }),
    }));
  }
}

/** Returns the actions of a plan, as `address: action`; empty if there are none. */
export function changes(plan: Plan): string[] {
  const resources = (plan.resource_changes ?? [])
    .filter(({ change }) => !change.actions.every((action) => action === 'no-op' || action === 'read'))
    .map(({ address, change }) => `${address}: ${change.actions.join('+')}`);
  const outputs = Object.entries(plan.output_changes ?? {})
    .filter(([, { actions }]) => !actions.every((action) => action === 'no-op'))
    .map(([name, { actions }]) => `output.${name}: ${actions.join('+')}`);
  return [...resources, ...outputs];
}
