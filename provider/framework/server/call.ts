/** One call of the protocol, from its request to its answer. */
import type { Diagnostic as DiagnosticMessage } from '../../protocol/messages.ts';
import { SEVERITY } from '../../protocol/messages.ts';
import type { Encodable } from '../../protocol/wire.ts';
import type { Attributes } from '../attributes.ts';
import { type Diagnostic, DiagnosticError, DiagnosticList } from '../diagnostics.ts';
import { locatable, pathMessage } from '../paths.ts';
import type { CallContext, Logger } from '../types.ts';

/** The reason of an aborted `signal`: the user stopped Terraform, or Terraform does not wait for the answer any more. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
  constructor() {
    super('interrupted');
  }
}

/** The reason of an aborted `signal`: the time limit of the operation is over. */
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

  /** Aborts the signal of this call. */
  abort(reason: Stopped | TimedOut): void {
    this.controller.abort(reason);
  }

  /** Returns the context of the handler. With a timeout in milliseconds, the call aborts after that time. */
  context(timeout?: number, diagnostics = this.diagnostics): CallContext {
    if (timeout !== undefined) this.timer = setTimeout(() => this.abort(new TimedOut(timeout)), timeout);
    return { log: this.log, diagnostics, signal: this.controller.signal };
  }

  /** Ends the call and its timer. */
  finish(): void {
    clearTimeout(this.timer);
  }

  /** Reports a bug of the provider. */
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
    // Go refuses a message whose text is not valid Unicode, such as half a surrogate pair.
    summary: diagnostic.summary.toWellFormed(),
    detail: (diagnostic.detail ?? '').toWellFormed(),
    ...(attribute?.steps?.length && { attribute }),
  };
}

/**
 * Adds the error of a handler to the diagnostics. Returns true if the user had stopped Terraform before the error.
 * @param doing the failed operation: "create ucloud_vm"
 */
export function addFailure(diagnostics: DiagnosticList, error: unknown, signal: AbortSignal, doing: string): boolean {
  const reason: unknown = signal.aborted ? signal.reason : undefined;
  const message = error instanceof Error ? error.message : String(error);
  // An aborted wait throws the reason itself, or the AbortError of a library.
  const aborted = error === reason || (error instanceof Error && /^(Abort|Timeout|TimedOut|Stopped)/.test(error.name));
  if (reason instanceof TimedOut && (aborted || error instanceof DiagnosticError)) {
    const detail = error === reason || !message ? '' : ` Last error: ${message}`;
    diagnostics.error(
      `Timeout: could not ${doing} in time`,
      `It took longer than ${reason.milliseconds / 1000} seconds. To wait longer, set \`timeouts\`.${detail}`,
    );
  } else if (reason instanceof Stopped && aborted) {
    diagnostics.error(`Interrupted: could not ${doing}`, 'Terraform was stopped by the user.');
  } else if (error instanceof DiagnosticError) {
    for (const diagnostic of error.diagnostics) diagnostics.add(diagnostic);
  } else {
    diagnostics.error(`Could not ${doing}`, message);
  }
  return reason instanceof Stopped;
}
