/** The change of one object that the path of the request names. */
import type { Stored } from '../store/records.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from './context.ts';
import { checkIfMatch } from './declared.ts';
import { type Decision, mutate } from './mutation.ts';
import { versionOf } from './reading.ts';
import { type DeclaredRecord, findToChange, type Served } from './served.ts';

/**
 * Decides on the object as it is, which must be what If-Match asks for, and again after each lost race.
 * Rejects with `not_found`, `forbidden`, `precondition_failed`, and with what `decide` throws.
 */
export const change = <R extends DeclaredRecord>(
  api: ApiContext,
  request: ApiRequest,
  served: Served<R>,
  decide: (stored: Stored<R>) => Decision | Promise<Decision>,
): Promise<ApiAnswer> =>
  mutate(api, request, () => {
    const stored = findToChange(api, served, request.caller, request.params.id ?? '');
    checkIfMatch(request.ifMatch, versionOf(api, served, stored));
    return decide(stored);
  });
