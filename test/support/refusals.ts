/** Creations that the API must refuse, for the stories of resources. */
import type { Test } from 'tap';
import type { ApiClient } from './api.ts';

/** Returns a check that a creation is refused with this status, and with this error of this field. */
export const refuses =
  (t: Test, operator: ApiClient) =>
  async (plural: string, body: object, status: number, pointer: string, detail: RegExp): Promise<void> => {
    const answer = await operator.request('POST', `/v1/${plural}`, body);
    t.match(answer, { status, body: { errors: [{ pointer, detail }] } }, JSON.stringify(body));
  };
