/** Temporary OpenPGP keys, created by GnuPG in their own directory. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);

/** The reason for `t.skip` on a machine without GnuPG; otherwise undefined. With CI=true, a missing GnuPG is a failure. */
export function gpgMissing(): string | undefined {
  if (spawnSync('gpg', ['--version']).status === 0) return undefined;
  if (process.env.CI === 'true') throw new Error('gpg is not installed, and CI=true allows no skips');
  return 'SKIPPED: gpg is not installed (Debian: apt-get install gpg gpg-agent)';
}

export interface SecretKey {
  /** The secret key, ASCII armoured. */
  readonly file: string;
  /** 40 hexadecimal digits, upper case. */
  readonly fingerprint: string;
}

export async function makeSigningKey(
  t: Test,
  { algorithm = 'ed25519', passphrase = '' }: { algorithm?: string; passphrase?: string } = {},
): Promise<SecretKey> {
  // The path of the test's directory may be too long for the sockets of GnuPG.
  const home = mkdtempSync(join(tmpdir(), 'gpg-'));
  const gpg = (...args: string[]) => run('gpg', ['--homedir', home, '--batch', '--pinentry-mode', 'loopback', ...args]);
  t.teardown(async () => {
    await run('gpgconf', ['--homedir', home, '--kill', 'all']);
    rmSync(home, { recursive: true, force: true });
  });
  const secret = ['--passphrase', passphrase];
  await gpg(...secret, '--quick-generate-key', 'Test <test@example.net>', algorithm, 'sign', '1d');
  const { stdout: listing } = await gpg('--with-colons', '--list-secret-keys');
  const fingerprint = /^fpr:+([0-9A-F]{40}):/m.exec(listing)?.[1];
  if (fingerprint === undefined) throw new Error(`no key:\n${listing}`);
  const { stdout: armored } = await gpg(...secret, '--armor', '--export-secret-keys', fingerprint);
  const file = join(home, 'secret.asc');
  writeFileSync(file, armored, { mode: 0o600 });
  return { file, fingerprint };
}
