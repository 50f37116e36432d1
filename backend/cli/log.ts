/** The log of the daemons on standard error: one JSON object per line, or readable lines on a terminal. */
import { pino } from 'pino';
import type { Logger } from '../model/component.ts';

const names: Record<number, string> = { 20: 'debug', 30: 'info', 40: 'WARN', 50: 'ERROR', 60: 'FATAL' };

function forPeople(line: string): string {
  const { level, time, pid: _pid, hostname: _hostname, msg, component, err, ...rest } = JSON.parse(line);
  const fields = Object.entries(rest)
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
  const clock = new Date(time).toISOString().slice(11, 23);
  const problem = err ? `\n  ${err.stack ?? err.message}` : '';
  return (
    `${clock} ${(names[level] ?? level).padEnd(5)} ${component ? `${component}: ` : ''}${msg} ${fields}`.trimEnd() +
    `${problem}\n`
  );
}

/** Creates the logger of a daemon. */
export function createLogger(options: { level: string }): Logger {
  const stream = process.stderr.isTTY
    ? { write: (line: string) => process.stderr.write(forPeople(line)) }
    : pino.destination({ dest: 2, sync: true });
  return pino({ level: options.level, redact: ['authorization', 'headers.authorization'] }, stream);
}
