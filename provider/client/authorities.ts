/** Which CAs are trusted: those of a file that the user names, else the well-known ones and the machine's. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { SecureContext } from 'node:tls';
import { DiagnosticError } from '../framework/index.ts';

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EISDIR: 'it is a directory, and one file with all certificates is needed',
  EACCES: 'it may not be read by this user',
};

/**
 * The text of a file of CAs: checked, since TLS ignores in silence what it cannot read. `from` is where the file is
 * configured. @throws DiagnosticError that names both
 */
export function readAuthorities(path: string, from: string): string {
  const fail = (why: string) =>
    new DiagnosticError(
      `${from} names a file that cannot be used`,
      `${path}: ${why}. It has to be the PEM file of the CAs that may vouch for the endpoint.`,
      ['ca_file'],
    );
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw fail(reasons[code] ?? message);
  }
  if (text.trim() === '') throw fail('it is empty');
  const certificates = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (certificates.length === 0) {
    throw fail(
      /PRIVATE KEY/.test(text) ? 'it holds a private key and no certificate' : 'it holds no certificate in PEM',
    );
  }
  certificates.forEach((certificate, i) => {
    try {
      new X509Certificate(certificate);
    } catch {
      throw fail(`certificate ${i + 1} of ${certificates.length} cannot be read`);
    }
  });
  return text;
}

/**
 * The well-known CAs, those of NODE_EXTRA_CA_CERTS and the machine's, in PEM. Node's own choice of them is not asked for:
 * the executable starts Node with an option that changes it (build.ts).
 */
export function commonAuthorities(): string[] {
  const { getCACertificates } = process.getBuiltinModule('node:tls');
  // Most of them are in more than one, and the machine's are in its directory and in its file.
  return [...new Set((['bundled', 'extra', 'system'] as const).flatMap((type) => getCACertificates(type)))];
}

let common: SecureContext | undefined;

/** Made once, since reading some hundred certificates takes longer than everything else about a connection. */
export function commonTrust(): SecureContext {
  common ??= process.getBuiltinModule('node:tls').createSecureContext({ ca: commonAuthorities() });
  return common;
}
