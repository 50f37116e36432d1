/** Files with secrets that the operator gives. ucloud warns about their permissions and does not change them. */
import { statSync } from 'node:fs';
import type { Logger } from '../model/component.ts';

/** The permissions that cause a warning. A group may read a TLS key, because many machines have a group for this. */
const tooOpen = { tlsKey: 0o007, stateKey: 0o077, smtpPasswordFile: 0o077 } as const;
const option = { tlsKey: '--tls-key', stateKey: '--state-key', smtpPasswordFile: '--smtp-password-file' } as const;

type Secrets = { readonly [name in keyof typeof tooOpen]?: string };

/** Warns if other users can read the files. */
export function warnOfReaders(logger: Logger, files: Secrets): void {
  for (const name of ['tlsKey', 'stateKey', 'smtpPasswordFile'] as const) {
    const path = files[name];
    // A missing file causes an error when it is read.
    const stats = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (stats && (stats.mode & tooOpen[name]) !== 0)
      logger.warn({ path }, `other users of this machine can read the file of ${option[name]}: chmod 600 it`);
  }
}
