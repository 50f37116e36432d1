/**
 * The state of one connection: which client the provider configured for it, and what to abort when the user presses
 * Ctrl-C. Terraform makes a connection for each walk over its graph and each provider block, and a reattached provider
 * serves several at once; so nothing of this may be shared.
 */
import { DiagnosticError, type DiagnosticList } from '../diagnostics.ts';
import type { CallContext, Logger } from '../types.ts';
import type { Registry } from './registry.ts';

/** Why `signal` aborted: the user asked Terraform to stop. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
  constructor() {
    super('interrupted');
  }
}

/** Why `signal` aborted: the time for the operation is over. */
export class TimedOut extends Error {
  override readonly name = 'TimedOut';
  readonly milliseconds: number;
  constructor(milliseconds: number) {
    super(`timed out after ${milliseconds / 1000} s`);
    this.milliseconds = milliseconds;
  }
}

export type Configured =
  | { state: 'unconfigured' }
  /** The provider's configuration is not wholly known yet. */
  | { state: 'unknown' }
  | { state: 'ready'; client: unknown };

export class Session {
  readonly registry: Registry;
  readonly log: Logger;
  configured: Configured = { state: 'unconfigured' };
  private stopping = new AbortController();

  constructor(registry: Registry, log: Logger) {
    this.registry = registry;
    this.log = log;
  }

  /** Aborts the calls that are running. Those that come later, such as closing ephemeral resources, may do their work. */
  stop(): void {
    this.stopping.abort(new Stopped());
    this.stopping = new AbortController();
  }

  /** What a handler gets. `finish` releases the timer of the timeout. */
  call(diagnostics: DiagnosticList, timeout?: number): CallContext & { finish(): void } {
    const base = { log: this.log, diagnostics };
    const stop = this.stopping.signal;
    if (timeout === undefined) return { ...base, signal: stop, finish() {} };
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new TimedOut(timeout)), timeout);
    return { ...base, signal: AbortSignal.any([stop, limit.signal]), finish: () => clearTimeout(timer) };
  }

  /** The configured client, or undefined while the configuration is unknown. */
  get clientIfKnown(): unknown {
    return this.configured.state === 'ready' ? this.configured.client : undefined;
  }

  /** @throws DiagnosticError when there is none. */
  get client(): unknown {
    if (this.configured.state === 'ready') return this.configured.client;
    throw this.configured.state === 'unknown'
      ? new DiagnosticError(
          'The provider is not configured yet',
          'Its configuration depends on values that are known only after apply. Apply what those values come from ' +
            'first, for instance with -target, or configure the provider with values that are known.',
        )
      : new DiagnosticError('The provider is not configured', 'Terraform did not configure it before this call.');
  }
}

/**
 * Adds what a handler threw to the diagnostics. `doing` says what failed: "create ucloud_vm". Answers whether the user
 * had asked to stop by then, so that there is no telling whether it would have failed.
 */
export function addFailure(diagnostics: DiagnosticList, error: unknown, signal: AbortSignal, doing: string): boolean {
  const reason: unknown = signal.aborted ? signal.reason : undefined;
  const message = error instanceof Error ? error.message : String(error);
  // What a wait throws when its signal aborts: the reason itself, or an AbortError from a library.
  const aborted = error === reason || (error instanceof Error && /^(Abort|Timeout|TimedOut|Stopped)/.test(error.name));
  if (reason instanceof TimedOut && (aborted || error instanceof DiagnosticError)) {
    const detail = error === reason || !message ? '' : ` It was at: ${message}`;
    diagnostics.error(
      `Timeout: could not ${doing} in time`,
      `It took longer than ${reason.milliseconds / 1000} seconds. The attribute "timeouts" can allow more.${detail}`,
    );
  } else if (reason instanceof Stopped && aborted) {
    diagnostics.error(`Interrupted: did not wait to ${doing}`, 'Terraform was asked to stop.');
  } else if (error instanceof DiagnosticError) {
    for (const diagnostic of error.diagnostics) diagnostics.add(diagnostic);
  } else {
    diagnostics.error(`Could not ${doing}`, message);
  }
  return reason instanceof Stopped;
}
