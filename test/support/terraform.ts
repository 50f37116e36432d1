/** Runs the real Terraform in a directory of its own, without touching the user's configuration or the network. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface TerraformOptions {
  /** Value of `TF_REATTACH_PROVIDERS`: providers that run already, for instance in the test itself. */
  reattach?: string;
  /** A directory laid out as a filesystem mirror; the only place that providers are installed from. */
  mirror?: string;
  /** Where to install providers from instead: what stands in the block `provider_installation`. */
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

/** A diagnostic as `terraform … -json` prints it. `line` is that of main.tf or wherever Terraform points. */
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

/** The version of the installed Terraform, or undefined when there is none. */
export function terraformVersion(): string | undefined {
  const { status, stdout } = spawnSync('terraform', ['version', '-json'], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, CHECKPOINT_DISABLE: '1', TF_CLI_CONFIG_FILE: '/dev/null' },
  });
  if (status !== 0) return undefined;
  return (JSON.parse(stdout) as { terraform_version: string }).terraform_version;
}

/**
 * Why the tests of this file can not run here, to be given to `t.skip`; undefined when they can. With CI=true a missing
 * Terraform is a failure.
 */
export function terraformMissing(): string | undefined {
  if (terraformVersion() !== undefined) return undefined;
  if (process.env.CI === 'true') throw new Error('terraform is not installed, and CI=true allows no skips');
  return 'SKIPPED: terraform is not installed (https://developer.hashicorp.com/terraform/install)';
}

/** A working directory with its own CLI configuration, state and home. Remove it with `remove`. */
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

  /** Ends whatever Terraform of this directory still runs, and removes everything. */
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

  /** Starts Terraform in a process group of its own, so that a test can send it signals as a terminal does. */
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

  /** Runs Terraform and gives its result, whatever it is. */
  async try(...args: string[]): Promise<TerraformResult> {
    return this.start(...args).result;
  }

  /** Runs Terraform and gives what it printed. @throws TerraformFailed */
  async run(...args: string[]): Promise<string> {
    const result = await this.try(...args);
    if (result.code !== 0) throw new TerraformFailed(args, result);
    return result.stdout;
  }

  /** Plans and reads the plan. @throws TerraformFailed */
  async plan(...args: string[]): Promise<Plan> {
    const text = await this.run('plan', '-no-color', '-out=test.tfplan', ...args);
    const plan = JSON.parse(await this.run('show', '-json', 'test.tfplan')) as Plan;
    return { ...plan, text };
  }

  /** The actions of the next apply on one resource. */
  async planned(address: string): Promise<NonNullable<Plan['resource_changes']>[number]['change']> {
    const found = (await this.plan()).resource_changes?.find((one) => one.address === address);
    if (!found) throw new Error(`${address} is not in the plan`);
    return found.change;
  }

  /** One resource of the state. */
  async resource(address: string): Promise<StateResource> {
    const found = (await this.state()).find((one) => one.address === address);
    if (!found) throw new Error(`${address} is not in the state`);
    return found;
  }

  /** The actions of the next apply on resources and outputs, as `address: action`; empty if there are none. */
  async pending(...args: string[]): Promise<string[]> {
    const planning = ['plan', '-no-color', '-out=test.tfplan', '-detailed-exitcode', ...args];
    const result = await this.try(...planning);
    if (result.code === 0) return []; // the exit code says that there is nothing, which saves reading the plan
    if (result.code !== 2) throw new TerraformFailed(planning, result);
    return changes(JSON.parse(await this.run('show', '-json', 'test.tfplan')) as Plan);
  }

  async apply(...args: string[]): Promise<string> {
    return this.run('apply', '-no-color', '-auto-approve', ...args);
  }

  async destroy(...args: string[]): Promise<string> {
    return this.run('destroy', '-no-color', '-auto-approve', ...args);
  }

  /** The objects in the state, those of modules included. */
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

  /** Runs `validate`, `plan`, `apply` or `destroy` and gives its diagnostics, whether it fails or not. */
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
