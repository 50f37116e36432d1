/**
 * Terraform's log. A plugin writes one JSON object a line to standard error in the format of go-hclog. With `TF_LOG` or
 * `TF_LOG_PROVIDER`, Terraform adds these lines to its own log.
 */
import type { Logger } from './types.ts';

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;
type Level = (typeof LEVELS)[number];

/** Returns the lowest level that Terraform shows; undefined without a log. */
export function wantedLevel(environment: NodeJS.ProcessEnv): Level | undefined {
  const asked = (environment.TF_LOG_PROVIDER || environment.TF_LOG || '').toLowerCase();
  if (asked === '' || asked === 'off') return undefined;
  if (asked === 'json') return 'trace';
  return LEVELS.find((level) => level === asked) ?? 'trace';
}

/** Returns a logger that passes its lines to `write`, without those below the wanted level. */
export function createLogger(module: string, wanted: Level | undefined, write: (line: string) => void): Logger {
  const log = (level: Level) => (message: string, fields?: Readonly<Record<string, unknown>>) => {
    if (wanted === undefined || LEVELS.indexOf(level) < LEVELS.indexOf(wanted)) return;
    const timestamp = new Date().toISOString().replace('Z', '000Z'); // hclog has microseconds
    const line = { '@level': level, '@message': message, '@module': module, '@timestamp': timestamp, ...fields };
    write(`${JSON.stringify(line, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}\n`);
  };
  return { trace: log('trace'), debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') };
}
