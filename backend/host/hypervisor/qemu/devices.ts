/** The devices of a running QEMU that can come and go. */
import type { Qmp, QmpEvent } from './qmp.ts';
import { objectsOf } from './qmp-messages.ts';

/** The time in milliseconds that a call waits for the guest to release a device. Linux needs about 100 ms. */
const releaseMs = 2_000;

/** A connection whose commands share one deadline. */
export class Monitor {
  readonly #qmp: Qmp;
  readonly #deadline: number;

  constructor(qmp: Qmp, timeoutMs: number) {
    this.#qmp = qmp;
    this.#deadline = performance.now() + timeoutMs;
  }

  execute(command: string, args: object = {}): Promise<unknown> {
    return this.#qmp.execute(command, args, Math.max(1, this.#deadline - performance.now()));
  }

  /** Calls the listener for each event. Returns a function that removes it. */
  listen(listener: (event: QmpEvent) => void): () => void {
    this.#qmp.on('event', listener);
    return () => this.#qmp.off('event', listener);
  }
}

/** Returns the names in the objects of an answer. @throws QmpError if the answer is no list */
export const namesIn = (answer: unknown, field: string): Set<string> =>
  new Set(objectsOf(answer).flatMap((each) => (typeof each[field] === 'string' ? [each[field]] : [])));

/** Returns the names of the devices that have one, root ports included. */
export const devicesOf = async (qmp: Monitor): Promise<Set<string>> =>
  namesIn(await qmp.execute('qom-list', { path: '/machine/peripheral' }), 'name');

/** Asks the guest to release the device. Returns after the release, or after `releaseMs`. */
export async function release(qmp: Monitor, device: string): Promise<void> {
  const released = Promise.withResolvers<void>();
  const listen = ({ event, data }: QmpEvent) => {
    if (event === 'DEVICE_DELETED' && data.device === device) released.resolve();
  };
  const end = qmp.listen(listen);
  const timer = setTimeout(released.resolve, releaseMs);
  try {
    await qmp.execute('device_del', { id: device });
    await released.promise;
  } finally {
    clearTimeout(timer);
    end();
  }
}
