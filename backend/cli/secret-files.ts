/** Files with secrets that the operator gives. ucloud warns about their permissions and does not change them. */
import { statSync } from 'node:fs';
import type { Logger } from '../model/component.ts';

/** The permissions that cause a warning. A group may read a TLS key, because many machines have a group for this. */
const tooOpen = { tlsKey: 0o007, stateKey: 0o077 } as const;
const option = { tlsKey: '--tls-key', stateKey: '--state-key' } as const;

/** Warns if other users can read the files. */
export function warnOfReaders(logger: Logger, files: { readonly tlsKey?: string; readonly stateKey?: string }): void {
  for (const name of ['tlsKey', 'stateKey'] as const) {
    const path = files[name];
    // A missing file causes an error when it is read.
    const stats = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (stats && (stats.mode & tooOpen[name]) !== 0)
      logger.warn({ path }, `other users of this machine can read the file of ${option[name]}: chmod 600 it`);
  }
}
