/** Objects and lists in the form that the API answers. */
import type { Answer, Request, StreamedBody } from './transport.ts';

/** An object of the API. */
export interface Item {
  readonly id: string;
  readonly revision: number;
  readonly [field: string]: unknown;
}

/** Returns true if the API has accepted the deletion of the object. The object still exists. */
export const isBeingDeleted = ({ status }: Item): boolean =>
  ['deleting', 'detaching'].includes(String((status as { readonly phase?: unknown } | undefined)?.phase));

/** One page of a list. */
export interface List {
  readonly items: readonly Item[];
  readonly next_page_token?: string;
  readonly revision: number;
}

/** The parameters after `?`. A parameter that is undefined is left out. */
export type Query = NonNullable<Request['query']>;

/** The options of a request. */
export interface CallOptions {
  readonly query?: Query;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
  /** A body of bytes instead of JSON. An abort of the signal ends the request at once. */
  readonly stream?: Omit<StreamedBody, 'stallMs'>;
  /** Further headers. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The time in milliseconds that the server may wait before it answers, for long polls and other slow answers. */
  readonly longPollMs?: number;
  /** The number of retries, instead of the client's own. */
  readonly retries?: number;
}

/** The answer to a successful request. */
export interface Success {
  readonly headers: Answer['headers'];
  /** The parsed body; undefined if it is empty. */
  readonly body: unknown;
}

/** Sends requests. */
export interface Caller {
  /**
   * Sends one request, with retries, and returns the body of the answer.
   * @throws ApiError, ConnectionError, or the reason of the signal
   */
  call(method: Request['method'], path: string, options?: CallOptions): Promise<unknown>;
}
