/**
 * A place in a configuration: attribute names, map keys and list indexes from the outside in, for example
 * `['networks', 0, 'mac']` or `['labels', 'team']`. An element of a set has no address: end the path at the set.
 */
export type AttributePath = readonly (string | number)[];

/** A message that Terraform shows to the user. With a path, Terraform also shows the line of the configuration. */
export interface Diagnostic {
  severity: 'error' | 'warning';
  /** The problem, in one line without a full stop. */
  summary: string;
  /** The meaning, and advice. */
  detail?: string;
  path?: AttributePath;
}

/** Collects the messages of a handler for the user. A successful handler may have warnings. */
export interface Diagnostics {
  error(summary: string, detail?: string, path?: AttributePath): void;
  warning(summary: string, detail?: string, path?: AttributePath): void;
  readonly hasErrors: boolean;
}

/** An error that a handler throws to fail with these diagnostics. Any other error becomes one diagnostic with its message. */
export class DiagnosticError extends Error {
  override readonly name = 'DiagnosticError';
  readonly diagnostics: readonly Diagnostic[];
  constructor(summary: string, detail?: string, path?: AttributePath);
  constructor(diagnostics: readonly Diagnostic[]);
  constructor(what: string | readonly Diagnostic[], detail?: string, path?: AttributePath) {
    const list: readonly Diagnostic[] =
      typeof what === 'string'
        ? [{ severity: 'error', summary: what, ...(detail !== undefined && { detail }), ...(path && { path }) }]
        : what;
    super(list.map((d) => (d.detail ? `${d.summary}: ${d.detail}` : d.summary)).join('\n'));
    this.diagnostics = list;
  }
}

/**
 * An error that `create` throws after `save` if the object exists without a fault, but its further state cannot be observed.
 * The state keeps the object, the diagnostics become warnings, and the next run continues.
 */
export class UnwatchedError extends DiagnosticError {}

/** The implementation of `ctx.diagnostics`. */
export class DiagnosticList implements Diagnostics {
  readonly list: Diagnostic[] = [];

  error(summary: string, detail?: string, path?: AttributePath): void {
    this.add({ severity: 'error', summary, ...(detail !== undefined && { detail }), ...(path && { path }) });
  }

  warning(summary: string, detail?: string, path?: AttributePath): void {
    this.add({ severity: 'warning', summary, ...(detail !== undefined && { detail }), ...(path && { path }) });
  }

  add(diagnostic: Diagnostic): void {
    this.list.push(diagnostic);
  }

  get hasErrors(): boolean {
    return this.list.some((d) => d.severity === 'error');
  }
}
