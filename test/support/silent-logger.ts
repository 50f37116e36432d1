import type { Logger } from '../../backend/model/component.ts';

/** A logger that writes only if UCLOUD_TEST_LOG is set. */
export const silentLogger: Logger = logger({});

function logger(context: Record<string, unknown>): Logger {
  const write = (level: string) => (fields: object, message: string) => {
    if (process.env.UCLOUD_TEST_LOG) console.error(level, message, { ...context, ...fields });
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (fields) => logger({ ...context, ...fields }),
  };
}
