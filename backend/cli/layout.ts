/** Where a process of ucloud keeps its files and listens. */
import { homedir } from 'node:os';
import { join } from 'node:path';

export type HypervisorChoice = 'auto' | 'qemu' | 'simulated';

/** What lies where below the data directory. */
export const layout = (data: string) => ({
  store: join(data, 'store.db'),
  files: join(data, 'files'),
  images: join(data, 'images'),
  host: join(data, 'host'),
});

export const defaultDataDirectory = (): string =>
  process.getuid?.() === 0
    ? '/var/lib/ucloud'
    : join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'ucloud');

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** `[::]:7780`, `127.0.0.1:80`, `:7780`. */
export function parseListen(text: string): Listen {
  const match = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new Error(`--listen: "${text}" is not of the form [address]:port`);
  return { host: match[1] ?? (match[2] || '::'), port };
}
