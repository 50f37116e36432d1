/** Types that all components share. */

/** The part of pino's interface that components use. The code that handles an error logs it once, as `{ err }`. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: Record<string, unknown>): Logger;
}

/** A long-running part of ucloud in this process. */
export interface Component {
  /** Stops the component. Running VMs outlive it by design. */
  close(): Promise<void>;
}
