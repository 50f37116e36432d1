/** One call of the protocol, from its request to its answer. */
import type { Diagnostic as DiagnosticMessage } from '../../protocol/messages.ts';
import { SEVERITY } from '../../protocol/messages.ts';
import type { Encodable } from '../../protocol/wire.ts';
import type { Attributes } from '../attributes.ts';
import { type Diagnostic, DiagnosticError, DiagnosticList } from '../diagnostics.ts';
import { locatable, pathMessage } from '../paths.ts';
import type { CallContext, Logger } from '../types.ts';

/** Why `signal` aborted: the user asked Terraform to stop, or Terraform does not wait for the answer any more. */
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

export class Call {
  readonly diagnostics = new DiagnosticList();
  /** The attributes that paths in diagnostics refer to. */
  attributes: Attributes = {};
  private readonly log: Logger;
  private readonly controller = new AbortController();
  private timer: NodeJS.Timeout | undefined;

  constructor(log: Logger) {
    this.log = log;
  }

  /** Tells whatever waits for this call to give up. */
  abort(reason: Stopped | TimedOut): void {
    this.controller.abort(reason);
  }

  /** Returns the context of the handler. With a timeout in milliseconds, the call aborts after that time. */
  context(timeout?: number, diagnostics = this.diagnostics): CallContext {
    if (timeout !== undefined) this.timer = setTimeout(() => this.abort(new TimedOut(timeout)), timeout);
    return { log: this.log, diagnostics, signal: this.controller.signal };
  }

  /** Nothing of it runs any more. */
  finish(): void {
    clearTimeout(this.timer);
  }

  /** Reports a mistake of the provider's own. */
  bug(detail: string): void {
    this.diagnostics.error('Bug in the provider', detail);
  }

  messages(): Encodable<typeof DiagnosticMessage>[] {
    return this.diagnostics.list.map((diagnostic) => diagnosticMessage(diagnostic, this.attributes));
  }
}

function diagnosticMessage(diagnostic: Diagnostic, attributes: Attributes): Encodable<typeof DiagnosticMessage> {
  const attribute = diagnostic.path && pathMessage(attributes, locatable(attributes, diagnostic.path));
  return {
    severity: SEVERITY[diagnostic.severity],
    // Go refuses a message with text that is not valid Unicode, such as half a surrogate pair.
    summary: diagnostic.summary.toWellFormed(),
    detail: (diagnostic.detail ?? '').toWellFormed(),
    ...(attribute?.steps?.length && { attribute }),
  };
}

/**
 * Adds what a handler threw to the diagnostics. `doing` says what failed: "create ucloud_vm". Answers whether the user
 * had asked to stop by then, so that there is no telling whether it would have failed.
 */
export function addFailure(diagnostics: DiagnosticList, error: unknown, signal: AbortSignal, doing: string): boolean {
  const reason: unknown = signal.aborted ? signal.reason : undefined;
  const message = error instanceof Error ? error.message : String(error);
  // An aborted wait throws the reason itself, or the AbortError of a library.
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
