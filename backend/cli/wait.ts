/**
 * `--wait`: stays until an object is what was asked for, by long polls. An API that is away for a while (a restart, a
 * deployment) does not end the wait: what was asked for is in the database, and goes on.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ApiFailure, call } from './client.ts';
import { tell } from './standard-output.ts';

export interface Waited {
  readonly id: string;
  readonly name?: string;
  readonly revision: number;
  readonly state?: string;
  readonly power_state?: string;
  readonly error?: { readonly message: string };
  readonly status?: { readonly phase: string; readonly reason?: string; readonly message?: string };
}

/** Longest poll, in seconds. Shorter than the idle timeouts of common proxies. */
const poll = 30;

const phaseOf = ({ status, state }: Waited): string => status?.phase ?? state ?? 'there';
const failed = (item: Waited): boolean => ['error', 'failed'].includes(phaseOf(item));
/** For VMs what they are declared to be; for images and operations their happy end. */
const settled = (item: Waited): boolean =>
  item.power_state === undefined
    ? ['available', 'succeeded', 'there'].includes(phaseOf(item))
    : phaseOf(item) === item.power_state;

const inWords = (item: Waited): string => {
  const why = item.error?.message ?? item.status?.message ?? item.status?.reason;
  return `${item.name ?? item.id} is ${phaseOf(item)}${why ? `: ${why}` : ''}`;
};

/**
 * @param path of the kind of object, `/v1/vms`
 * @param seconds longest wait
 * @returns the object as it is then; undefined when it is gone, which is an error unless `gone` was waited for
 */
export async function waitFor(
  path: string,
  from: Waited,
  wish: 'settled' | 'gone',
  seconds: number,
): Promise<Waited | undefined> {
  const deadline = performance.now() + seconds * 1000;
  let item = from;
  let outage: string | undefined;
  for (;;) {
    if (wish === 'settled' && settled(item)) return item;
    if (wish === 'settled' && failed(item)) throw new Error(inWords(item));
    const left = (deadline - performance.now()) / 1000;
    if (left <= 0) {
      throw new Error(`not within ${seconds} s: ${outage ?? inWords(item)}. It goes on without this command.`);
    }
    const query = { after: String(item.revision), timeout: String(Math.ceil(Math.min(poll, left))) };
    try {
      item = (await call({ method: 'GET', path: `${path}/${item.id}`, query })) as Waited;
      outage = undefined;
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      if (error.code === 'not_found') {
        if (wish === 'gone') return undefined;
        throw new Error(`${item.name ?? item.id} was deleted meanwhile`);
      }
      if (error.code !== undefined && error.code !== 'store_unavailable') throw error;
      if (outage === undefined) tell(`${error.message.split('\n')[0]}; still waiting`);
      outage = error.message;
      await delay(Math.min(1000, Math.max(0, deadline - performance.now())));
    }
  }
}
