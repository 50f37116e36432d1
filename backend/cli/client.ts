/** One request to the API from the command line. Errors come back as text for people: what, which field, what to do. */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'undici';
import { type ErrorCode, errorTable, type FieldError } from '../contract/errors.ts';
import { readCredentials } from './credentials.ts';

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly query?: Record<string, string | undefined>;
  readonly body?: unknown;
}

interface Problem {
  readonly title?: string;
  readonly detail?: string;
  readonly code?: ErrorCode;
  readonly errors?: readonly FieldError[];
  readonly request_id?: string;
}

export class ApiFailure extends Error {}

function describe(status: number, problem: Problem): string {
  const definition = problem.code ? errorTable[problem.code] : undefined;
  return [
    `${problem.title ?? `HTTP ${status}`}${problem.code ? ` (${problem.code})` : ''}`,
    ...(problem.detail && !problem.errors?.length ? [`  ${problem.detail}`] : []),
    ...(problem.errors ?? []).map(({ pointer, detail }) => `  ${pointer}: ${detail}`),
    ...(definition ? [`  What to do: ${definition.user}`] : []),
    ...(problem.request_id && status >= 500 ? [`  Request id: ${problem.request_id}`] : []),
  ].join('\n');
}

export async function call({ method, path, query, body }: Call): Promise<unknown> {
  const { endpoint, token, ca_file } = readCredentials();
  if (!endpoint || !token) {
    throw new ApiFailure(
      'No endpoint or token. Set UCLOUD_ENDPOINT and UCLOUD_TOKEN, or let `ucloud up` write the credentials file.',
    );
  }
  const url = new URL(path, endpoint);
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) url.searchParams.set(name, value);
  const dispatcher = ca_file ? new Agent({ connect: { ca: readFileSync(ca_file, 'utf8') } }) : undefined;
  const answer = await request(url, {
    method: method as 'GET',
    dispatcher,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(method === 'POST' && { 'idempotency-key': randomUUID() }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch((error: Error) => {
    throw new ApiFailure(`${url.origin} does not answer: ${error.message}`, { cause: error });
  });
  const text = await answer.body.text();
  await dispatcher?.close();
  if (answer.statusCode >= 400) {
    let problem: Problem = {};
    try {
      problem = JSON.parse(text);
    } catch {
      problem = { detail: text.slice(0, 500) };
    }
    throw new ApiFailure(describe(answer.statusCode, problem));
  }
  return text === '' ? undefined : JSON.parse(text);
}
