/**
 * Runs a daemon until SIGTERM or SIGINT, and then closes its components in the reverse order of their start. A call of
 * `fail` stops the daemon too, and its error is thrown.
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
  // The handler prevents an unhandled rejection before the race below waits for the promise.
  failed.promise.catch(() => undefined);
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        logger.info({ signal }, 'stopping');
        // A second signal ends the process immediately.
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
