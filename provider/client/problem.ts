/** Errors of the API, and their diagnostics in Terraform at the attributes that the API's JSON pointers name. */
import { type AttributePath, type Diagnostic, DiagnosticError, pathText } from '../framework/index.ts';
import { errors } from '../schema/errors.gen.ts';
import { ConnectionError } from './connection-error.ts';

/** RFC 9457, as openapi.yaml has it. */
export interface Problem {
  readonly title: string;
  readonly detail: string;
  readonly code: string;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
  /** With `in_use`: those that the token may know of. */
  readonly users?: readonly { readonly id: string; readonly being_deleted: boolean }[];
  readonly request_id?: string;
}

/** The API refused or failed. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly problem: Problem;
  /** How long the API asks to wait, in milliseconds. */
  readonly retryAfter: number | undefined;
  constructor(status: number, problem: Problem, retryAfter?: number) {
    super(`${problem.title}: ${problem.detail}`);
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
  get code(): string {
    return this.problem.code;
  }
}

export const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.code === 'not_found';

export const isRetryable = (error: unknown): boolean =>
  (error instanceof ConnectionError && error.retryable) ||
  (error instanceof ApiError && (errors[error.code]?.retryable ?? [502, 503, 504].includes(error.status)));

/** Returns true if the API may have made the change in spite of the error. */
export const mayBeDone = (error: unknown): boolean =>
  error instanceof ConnectionError ? error.sent : error instanceof ApiError && error.status >= 500;

/**
 * `/interfaces/0/network` is the attribute `interfaces[0].network`, and `#query/selector` is `selector`; undefined for what
 * is no field of the body and no parameter of a list.
 */
export function attributePath(pointer: string): AttributePath | undefined {
  const field = pointer.match(/^(?:#query)?\/(.*)$/s)?.[1];
  if (field === undefined) return undefined;
  return field
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}

/** An id that begins a sentence stays as it is. */
export const sentence = (text: string): string => {
  const start = /^[a-z]+(?:[\s,]|:\s)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(start) ? start : `${start}.`;
};

/** Returns the advice of the error table. Its text names members of the answer; in Terraform, they are above the advice. */
export function actionFor(code: string): string | undefined {
  const text = errors[code]?.action.replaceAll(' in `detail`', ' above');
  return text?.includes('`detail`') ? undefined : text;
}

/**
 * The diagnostics of an error: one for each field at fault, at its attribute, or else one for the whole. `attributes`
 * are those that exist; `what` begins the summary, for instance `VM "web" was not created`.
 */
export function diagnosticsOf(error: ApiError, what: string, attributes: ReadonlySet<string>): Diagnostic[] {
  const { problem } = error;
  const action = actionFor(problem.code);
  const request = error.status >= 500 && problem.request_id ? `Request id: ${problem.request_id}.` : '';
  const summary = `${what}: ${problem.title.charAt(0).toLowerCase()}${problem.title.slice(1)}`;
  const generic = problem.errors && problem.errors.length > 0 ? '' : action;
  // A field's detail is a clause that follows its name: "must be …", "is required".
  const fields = (problem.errors ?? []).map(({ pointer, detail }): Diagnostic => {
    const path = attributePath(pointer);
    const known = path !== undefined && attributes.has(String(path[0]));
    return {
      severity: 'error',
      summary,
      detail: `${known ? `\`${pathText(path)}\`` : pointer} ${/[.!?]$/.test(detail) ? detail : `${detail}.`}`,
      ...(known && { path }),
    };
  });
  if (fields.length > 0) return fields;
  return [
    { severity: 'error', summary, detail: [sentence(problem.detail), generic, request].filter(Boolean).join('\n\n') },
  ];
}

/** An error as what a handler throws; errors that are not the API's pass through. */
export function explain(error: unknown, what: string, attributes: ReadonlySet<string>): unknown {
  if (error instanceof ApiError) return new DiagnosticError(diagnosticsOf(error, what, attributes));
  if (error instanceof ConnectionError) {
    const detail = [sentence(error.message), error.action].filter(Boolean).join('\n\n');
    return new DiagnosticError(`${what}: the API cannot be reached`, detail);
  }
  return error;
}

/** The same with more to say, below the rest. */
export function withHint(error: unknown, hint: string): unknown {
  if (!(error instanceof DiagnosticError)) return error;
  return new DiagnosticError(
    error.diagnostics.map((one) => ({ ...one, detail: [one.detail, hint].filter(Boolean).join('\n\n') })),
  );
}
