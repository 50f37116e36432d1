/**
 * The state of one connection: the client that the provider configured for it, and the running calls, which Ctrl-C aborts.
 * Terraform makes a connection for each walk over its graph and each provider block. A reattached provider serves several
 * connections at the same time, so they must not share this state.
 */
import { DiagnosticError } from '../diagnostics.ts';
import type { Logger } from '../types.ts';
import { Call, Stopped } from './call.ts';
import type { Registry } from './registry.ts';

export type Configured =
  | { state: 'unconfigured' }
  /** The provider's configuration is not wholly known yet. */
  | { state: 'unknown' }
  | { state: 'ready'; client: unknown; session: unknown };

export class Session {
  readonly registry: Registry;
  readonly log: Logger;
  configured: Configured = { state: 'unconfigured' };
  private readonly running = new Set<Call>();

  constructor(registry: Registry, log: Logger) {
    this.registry = registry;
    this.log = log;
  }

  /** Runs one call, which `stop` and `cancelled` abort. */
  async run<T>(cancelled: AbortSignal, handle: (call: Call) => Promise<T>): Promise<T> {
    const call = new Call(this.log);
    const cancel = () => call.abort(new Stopped());
    if (cancelled.aborted) cancel();
    else cancelled.addEventListener('abort', cancel, { once: true });
    this.running.add(call);
    try {
      return await handle(call);
    } finally {
      this.running.delete(call);
      cancelled.removeEventListener('abort', cancel);
      call.finish();
    }
  }

  /** Aborts the running calls. Later calls, such as the closing of ephemeral resources, still run. */
  stop(): void {
    for (const call of this.running) call.abort(new Stopped());
  }

  /** Returns the client and its plan session; both undefined while the configuration is unknown. */
  get clientIfKnown(): { readonly client: unknown; readonly session: unknown } {
    return this.configured.state === 'ready' ? this.client : { client: undefined, session: undefined };
  }

  /** Returns true if a call is deferred: the configuration is unknown, and this Terraform can repeat the call later. */
  defers(client: { deferral_allowed: boolean } | undefined): boolean {
    return this.configured.state === 'unknown' && client?.deferral_allowed === true;
  }

  /** Returns the client and its plan session. @throws DiagnosticError without a client */
  get client(): { readonly client: unknown; readonly session: unknown } {
    if (this.configured.state === 'ready') return { client: this.configured.client, session: this.configured.session };
    throw this.configured.state === 'unknown'
      ? new DiagnosticError(
          'The provider is not configured yet',
          'Its configuration depends on values that are known only after apply. Apply the sources of those values ' +
            'first, for instance with -target, or configure the provider with values that are known.',
        )
      : new DiagnosticError('The provider is not configured', 'Terraform did not configure it before this call.');
  }
}
