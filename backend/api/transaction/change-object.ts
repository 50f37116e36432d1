/** The change of the object that the path of the request names. */
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { DeclaredRecord, ResourceDescriptor } from '../requests/descriptor.ts';
import { findToChange, versionOf } from '../requests/objects.ts';
import { checkIfMatch } from './declarations.ts';
import { type Decision, mutate } from './mutate.ts';

/**
 * Changes the object if it has the version of If-Match. `decide` runs again after each lost race. @throws UcloudError
 * `not_found`, `forbidden`, `precondition_failed`, and every error of `decide`
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
