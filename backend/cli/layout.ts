/** Where a process of ucloud keeps its files. */
import { homedir } from 'node:os';
import { join } from 'node:path';

export type HypervisorChoice = 'auto' | 'qemu' | 'simulated';

/** What lies where below the data directory. */
export const layout = (data: string) => ({
  store: join(data, 'store.db'),
  files: join(data, 'files'),
  images: join(data, 'images'),
  host: join(data, 'host'),
  stateKey: join(data, 'state.key'),
});

export const defaultDataDirectory = (): string =>
  process.getuid?.() === 0
    ? '/var/lib/ucloud'
    : join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'ucloud');

/** Where `npm run package:provider` puts what it makes. */
export const packagedProviders = join(import.meta.dirname, '..', '..', 'dist', 'registry');
