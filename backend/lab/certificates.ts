/** The certificates of the database of a lab. openssl makes them, because Node makes keys but no certificates. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { environment } from '../host/system/command.ts';

const days = '3650';

/**
 * Creates a CA and certificates of these names in the directory, unless it exists: `<name>.pem` and `<name>-key.pem`. The
 * directory appears when it is complete.
 * @param addresses the IP addresses of each name, for servers
 */
export async function makeCertificates(
  directory: string,
  addresses: Readonly<Record<string, readonly string[]>>,
): Promise<void> {
  if (existsSync(directory)) return;
  const draft = `${directory}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  const openssl = (...args: string[]) => promisify(execFile)('openssl', args, { cwd: draft, env: environment });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca.pem', '-days', days, '-subj', '/CN=lab');
  for (const [name, ips] of Object.entries(addresses)) {
    const names = ips.length === 0 ? [] : ['-addext', `subjectAltName=${ips.map((each) => `IP:${each}`).join(',')}`];
    await openssl('req', ...key, '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', `/CN=${name}`, ...names);
    const ca = ['-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', days, '-copy_extensions', 'copy'];
    await openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...ca);
    rmSync(join(draft, `${name}.csr`));
  }
  renameSync(draft, directory);
}
