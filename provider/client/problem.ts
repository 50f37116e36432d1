/**
 * Errors of the API, and their Terraform diagnostics. A diagnostic points to the attribute of the API's JSON pointer.
 */
import { type AttributePath, type Diagnostic, DiagnosticError, pathText } from '../framework/index.ts';
import { errors } from '../schema/errors.gen.ts';
import { ConnectionError } from './connection-error.ts';

/** A problem (RFC 9457), as in openapi.yaml. */
export interface Problem {
  readonly title: string;
  readonly detail: string;
  readonly code: string;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
  /** The users of the object, for `in_use`. Only those that the token may see. */
  readonly users?: readonly { readonly id: string; readonly being_deleted: boolean }[];
  readonly request_id?: string;
}

/** The API refused a request, or failed. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly problem: Problem;
  /** The time after which the API asks for a retry, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  constructor(status: number, problem: Problem, retryAfterMs?: number) {
    super(`${problem.title}: ${problem.detail}`);
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
  get code(): string {
    return this.problem.code;
  }
}

/** Tells whether the API has no such object. */
export const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.code === 'not_found';

/** Tells whether a later attempt may succeed. */
export const isRetryable = (error: unknown): boolean =>
  (error instanceof ConnectionError && error.retryable) ||
  (error instanceof ApiError && (errors[error.code]?.retryable ?? [502, 503, 504].includes(error.status)));

/** Returns true if the API may have made the change in spite of the error. */
export const mayBeDone = (error: unknown): boolean =>
  error instanceof ConnectionError ? error.sent : error instanceof ApiError && error.status >= 500;

/**
 * Returns the attribute of a JSON pointer: `interfaces[0].network` for `/interfaces/0/network`, and `selector` for
 * `#query/selector`. Returns undefined for a pointer to neither a field of the body nor a parameter of a list.
 */
export function attributePath(pointer: string): AttributePath | undefined {
  const field = pointer.match(/^(?:#query)?\/(.*)$/s)?.[1];
  if (field === undefined) return undefined;
  return field
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}

/** Returns the text as a sentence: with a capital, unless it begins with an id, and with a full stop. */
export const sentence = (text: string): string => {
  const start = /^[a-z]+(?:[\s,]|:\s)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(start) ? start : `${start}.`;
};

/** Returns the advice of the error table. It refers to the diagnostic above it instead of `detail`. */
export function actionFor(code: string): string | undefined {
  const text = errors[code]?.action.replaceAll(' in `detail`', ' above');
  return text?.includes('`detail`') ? undefined : text;
}

/**
 * Returns the diagnostics of an error: one for each wrong field, at its attribute, or else a single one.
 * @param failedAction the beginning of the summary, such as `VM "web" was not created`
 * @param attributes the names of the resource's attributes
 */
export function diagnosticsOf(error: ApiError, failedAction: string, attributes: ReadonlySet<string>): Diagnostic[] {
  const { problem } = error;
  const action = actionFor(problem.code);
  const request = error.status >= 500 && problem.request_id ? `Request id: ${problem.request_id}.` : '';
  const summary = `${failedAction}: ${problem.title.charAt(0).toLowerCase()}${problem.title.slice(1)}`;
  const advice = problem.errors && problem.errors.length > 0 ? '' : action;
  // The detail of a field is a clause that follows its name, such as "must be …" or "is required".
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
    { severity: 'error', summary, detail: [sentence(problem.detail), advice, request].filter(Boolean).join('\n\n') },
  ];
}

/** Returns the error that a handler throws instead. Errors that are neither of the API nor of its connection stay. */
export function explain(error: unknown, failedAction: string, attributes: ReadonlySet<string>): unknown {
  if (error instanceof ApiError) return new DiagnosticError(diagnosticsOf(error, failedAction, attributes));
  if (error instanceof ConnectionError) {
    const detail = [sentence(error.message), error.action].filter(Boolean).join('\n\n');
    return new DiagnosticError(`${failedAction}: the API cannot be reached`, detail);
  }
  return error;
}

/** Returns the error with a further paragraph in each diagnostic. Other errors stay. */
export function withHint(error: unknown, hint: string): unknown {
  if (!(error instanceof DiagnosticError)) return error;
  return new DiagnosticError(
    error.diagnostics.map((one) => ({ ...one, detail: [one.detail, hint].filter(Boolean).join('\n\n') })),
  );
}
