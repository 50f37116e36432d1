/** The places of ucloud's files. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The choice of a hypervisor; `auto` is qemu if it works here. */
export type HypervisorChoice = 'auto' | 'qemu' | 'simulated';

/** Returns the paths below the data directory. */
export const layout = (data: string) => ({
  store: join(data, 'store.db'),
  files: join(data, 'files'),
  images: join(data, 'images'),
  host: join(data, 'host'),
  imageCopies: join(data, 'host', 'images'),
  stateKey: join(data, 'state.key'),
});

/** Returns the default data directory. */
export const defaultDataDirectory = (): string =>
  process.getuid?.() === 0
    ? '/var/lib/ucloud'
    : join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'ucloud');

/** The output directory of `npm run package:provider`. */
export const packagedProviders = join(import.meta.dirname, '..', '..', 'dist', 'registry');
