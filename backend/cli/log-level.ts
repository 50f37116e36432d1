/** The option of the log level. It is apart from the log, because every command has the option, and only daemons load pino. */
import { Option } from 'commander';

/** Returns the option of the log level. */
export const logLevelOption = () =>
  new Option('--log-level <level>', 'minimum level of log lines')
    .choices(['debug', 'info', 'warn', 'error'])
    .default('info');
