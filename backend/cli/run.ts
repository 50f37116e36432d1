/**
 * Keeps a daemon up until it is told to stop: SIGTERM or SIGINT closes its components in the reverse order of their start.
 * So does a call of `fail`, for a reason that has come up since; it is then thrown.
 */
import type { Component, Logger } from '../model/component.ts';

export async function runUntilStopped(
  logger: Logger,
  start: (started: (part: Component) => void, fail: (reason: Error) => void) => Promise<void>,
): Promise<void> {
  const parts: Component[] = [];
  const close = async () => {
    for (const part of parts.splice(0).reverse()) {
      await part.close().catch((err: unknown) => logger.error({ err }, 'did not close cleanly'));
    }
  };
  const failed = Promise.withResolvers<never>();
  // Perhaps nobody waits for it yet.
  failed.promise.catch(() => undefined);
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        logger.info({ signal }, 'stopping');
        // A second signal ends the process at once.
        process.once(signal, () => process.exit(1));
        resolve();
      });
    }
  });
  try {
    await start((part) => parts.push(part), failed.reject);
    await Promise.race([stopped, failed.promise]);
  } finally {
    await close();
  }
}
