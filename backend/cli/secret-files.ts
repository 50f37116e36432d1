/** Files with secrets that an operator names. They are the operator's: what is wrong with them is said, not mended. */
import { statSync } from 'node:fs';
import type { Logger } from '../model/component.ts';

/** A group may read a key of TLS: there is one for that purpose on many machines. */
const tooOpen = { tlsKey: 0o007, stateKey: 0o077 } as const;
const option = { tlsKey: '--tls-key', stateKey: '--state-key' } as const;

export function warnOfReaders(logger: Logger, files: { readonly tlsKey?: string; readonly stateKey?: string }): void {
  for (const name of ['tlsKey', 'stateKey'] as const) {
    const path = files[name];
    // One that is not there is told when it is read.
    const stats = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (stats && (stats.mode & tooOpen[name]) !== 0)
      logger.warn({ path }, `other users of this machine can read the file of ${option[name]}: chmod 600 it`);
  }
}
