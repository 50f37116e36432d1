/** Continues and ends uploads in the background: after crashes, after the scanner has seen the file, and after a day. */
import type { Component } from '../../model/component.ts';
import * as records from '../../model/records/index.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { ApiContext } from '../requests/context.ts';

const intervalMs = 60_000;

/** Starts the job. */
export function startUploadSweeper({ uploads, mirror, logger }: ApiContext): Component {
  if (!uploads) return { close: async () => undefined };
  let sweeping = Promise.resolve();
  const sweep = () => {
    sweeping = sweeping
      .then(() => uploads.sweep(new Date()))
      .catch((err: unknown) => logger.warn({ err }, 'uploads could not be swept'));
  };
  const timer = setInterval(sweep, intervalMs).unref();
  const unsubscribe = mirror.subscribe(({ changes }) => {
    // The scanner has recorded a file, which may be the end of an upload.
    if (
      changes.some((change) => isChangeOf(records.files, change) && change.stored !== undefined) &&
      uploads.awaitsFile
    )
      sweep();
  });
  sweep();
  return {
    async close() {
      clearInterval(timer);
      unsubscribe();
      await sweeping;
      await uploads.close();
    },
  };
}
