/** The CAs that the provider trusts: those of the user's file, or the well-known CAs and those of the machine. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { SecureContext } from 'node:tls';
import { DiagnosticError } from '../framework/index.ts';

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EISDIR: 'it is a directory, and one file with all certificates is needed',
  EACCES: 'this user may not read it',
};

/**
 * Returns the text of a file of CAs in PEM. The function checks the file, because TLS ignores unreadable certificates
 * without an error.
 * @param place the place where the file is configured, for errors
 * @throws DiagnosticError that names the place and the file
 */
export function readAuthorities(path: string, place: string): string {
  const fail = (why: string) =>
    new DiagnosticError(
      `${place} names a file that cannot be used`,
      `${path}: ${why}. It must be a PEM file with the CAs that may sign the certificate of the endpoint.`,
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
      /PRIVATE KEY/.test(text) ? 'it contains a private key and no certificate' : 'it contains no certificate in PEM',
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
 * Returns the well-known CAs, those of NODE_EXTRA_CA_CERTS and those of the machine, in PEM. Node's default set does
 * not suffice, because the executable starts Node with an option that changes this set (build.ts).
 */
export function defaultAuthorities(): string[] {
  const { getCACertificates } = process.getBuiltinModule('node:tls');
  // Most CAs are in several of the sets, and the machine has each CA in a directory and in a file.
  return [...new Set((['bundled', 'extra', 'system'] as const).flatMap((type) => getCACertificates(type)))];
}

let defaultContext: SecureContext | undefined;

/** Returns the TLS context with these CAs. It is created once, because reading the certificates takes a long time. */
export function defaultSecureContext(): SecureContext {
  defaultContext ??= process.getBuiltinModule('node:tls').createSecureContext({ ca: defaultAuthorities() });
  return defaultContext;
}
