/**
 * Detached OpenPGP signatures, which Terraform requires of a registry, created by GnuPG. GnuPG gets its own directory, so it
 * neither reads nor changes the user's keys and agent.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Signed {
  /** The binary signature. */
  readonly signature: Buffer;
  /** The fingerprint of the signing key: 40 hexadecimal digits, upper case. */
  readonly fingerprint: string;
  /** The public key that verifies the signature, ASCII armoured. */
  readonly publicKey: string;
}

/** Returns the error message of GnuPG, without the output before it. */
function failure(what: string, error: unknown): Error {
  const { code, stderr = '', message } = error as { code?: unknown; stderr?: string | Buffer; message: string };
  if (code === 'ENOENT') return new Error('signing needs GnuPG (Debian: apt-get install gpg gpg-agent)');
  return new Error(`${what}: ${stderr.toString().trim() || message}`);
}

/**
 * Signs a file with the secret key in a key file (exported by `gpg --export-secret-keys`, armoured or binary).
 * @throws Error if GnuPG is missing, the file does not contain exactly one secret key, or the passphrase is wrong
 */
export async function sign(file: string, keyFile: string, passphrase = ''): Promise<Signed> {
  const home = await mkdtemp(join(tmpdir(), 'ucloud-gpg-'));
  const gpg = (...args: string[]) => {
    const running = run('gpg', ['--homedir', home, '--batch', '--no-tty', '--quiet', ...args], { encoding: 'buffer' });
    // A command that does not need the passphrase may close the pipe before the write.
    running.child.stdin?.on('error', () => undefined).end(`${passphrase}\n`);
    return running;
  };
  try {
    await gpg('--import', keyFile).catch((error: unknown) => {
      throw failure(`${keyFile} cannot be imported`, error);
    });
    const { stdout: listing } = await gpg('--with-colons', '--list-secret-keys');
    const lines = listing.toString().split('\n');
    const keys = lines.flatMap((line, index) => (line.startsWith('sec:') ? [index] : []));
    const [first] = keys;
    if (first === undefined || keys.length > 1) {
      throw new Error(`${keyFile} must contain one secret key, and contains ${keys.length}`);
    }
    const fingerprint =
      lines
        .slice(first)
        .find((line) => line.startsWith('fpr:'))
        ?.split(':')[9] ?? '';
    const { stdout: signature } = await gpg(
      ...['--pinentry-mode', 'loopback', '--passphrase-fd', '0'],
      // Terraform accepts no SHA-1.
      ...['--digest-algo', 'SHA512', '--local-user', fingerprint, '--output', '-', '--detach-sign', file],
    ).catch((error: unknown) => {
      throw failure(`${file} cannot be signed`, error);
    });
    const { stdout: publicKey } = await gpg('--armor', '--export', fingerprint);
    return { signature, fingerprint, publicKey: publicKey.toString() };
  } finally {
    // GnuPG may have started an agent for this directory, which would outlive the directory.
    await run('gpgconf', ['--homedir', home, '--kill', 'all']).catch(() => undefined);
    await rm(home, { recursive: true, force: true });
  }
}
