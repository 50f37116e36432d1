/**
 * `--wait`: waits by long polls until an object is in the requested state. An unreachable API (a restart, a deployment)
 * does not end the wait, because the request is in the database.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ApiFailure, call } from './client.ts';
import { tell } from './standard-output.ts';

/** The fields of an object that a wait reads. */
export interface Waited {
  readonly id: string;
  readonly name?: string;
  readonly revision: number;
  readonly state?: string;
  readonly power_state?: string;
  readonly error?: { readonly message: string };
  readonly status?: {
    readonly phase: string;
    readonly reason?: string;
    readonly message?: string;
    readonly step?: string;
    readonly progress?: number;
  };
}

/** The seconds of one long poll: less than the idle timeouts of common proxies. */
const poll = 30;

const phaseOf = ({ status, state }: Waited): string => status?.phase ?? state ?? 'there';
const failed = (item: Waited): boolean => ['error', 'failed'].includes(phaseOf(item));
/** Tells whether a VM or attachment is in its declared state, or an image or operation has succeeded. */
const settled = (item: Waited): boolean =>
  item.power_state === undefined
    ? ['available', 'attached', 'ready', 'succeeded', 'there'].includes(phaseOf(item))
    : phaseOf(item) === item.power_state;

const inWords = (item: Waited): string => {
  const why = item.error?.message ?? item.status?.message ?? item.status?.reason;
  const { step, progress } = item.status ?? {};
  const done = step === undefined ? '' : ` (${step}, ${progress ?? 0} %)`;
  return `${item.name ?? item.id} is ${phaseOf(item)}${done}${why ? `: ${why}` : ''}`;
};

/**
 * Waits for an object. Returns the object; undefined if it is gone. @param path the path of the list, `/v1/vms` @param
 * seconds the maximum time @throws Error after that time, after a failure of the object, or if the object is gone
 * unexpectedly
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
      throw new Error(
        `not within ${seconds} s: ${outage ?? inWords(item)}. The action continues without this command.`,
      );
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
