/** The change of one object that the path of the request names. */
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { DeclaredRecord, ResourceDescriptor } from '../requests/descriptor.ts';
import { findToChange, versionOf } from '../requests/objects.ts';
import { checkIfMatch } from './declarations.ts';
import { type Decision, mutate } from './mutate.ts';

/**
 * Decides on the object as it is, which must be what If-Match asks for, and again after each lost race.
 * Rejects with `not_found`, `forbidden`, `precondition_failed`, and with what `decide` throws.
 */
export const changeObject = <R extends DeclaredRecord>(
  api: ApiContext,
  request: ApiRequest,
  descriptor: ResourceDescriptor<R>,
  decide: (stored: Stored<R>) => Decision | Promise<Decision>,
): Promise<ApiAnswer> =>
  mutate(api, request, () => {
    const stored = findToChange(api, descriptor, request.caller, request.params.id ?? '');
    checkIfMatch(request.ifMatch, versionOf(api, descriptor, stored));
    return decide(stored);
  });
