/** What every long-running part of ucloud has in common. */

/** The subset of pino that components use. An error is logged once, where it is handled, as `{ err }`. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: Record<string, unknown>): Logger;
}

export interface Component {
  /** Stops working. What outlives the process by design (running VMs) goes on. */
  close(): Promise<void>;
}
