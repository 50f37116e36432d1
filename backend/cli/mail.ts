/** The options of the mail server. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { SmtpSettings } from '../billing/mail/smtp.ts';

/** The options of commands that send e-mails. */
export interface MailOptions {
  readonly smtp?: string;
  readonly smtpPasswordFile?: string;
  readonly mailFrom?: string;
}

/** The default ports of mail servers for submission (RFC 8314). */
const ports = { 'smtp:': 587, 'smtps:': 465 } as const;
const address = /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$/;

/** Adds the options of the mail server. */
export const addMailOptions = (command: Command): Command =>
  command
    .option(
      '--smtp <url>',
      'mail server for e-mails to customers: smtp://[user@]host[:port], with STARTTLS, or smtps:// for TLS. Default: no e-mails',
    )
    .option('--smtp-password-file <file>', 'file with the password of the user in --smtp')
    .option('--mail-from <address>', 'address from which e-mails come');

/** Returns the settings of the mail server; undefined without one. @throws Error that names the option and the problem */
export function readMail({ smtp, smtpPasswordFile, mailFrom }: MailOptions): SmtpSettings | undefined {
  if (smtp === undefined) {
    const other =
      smtpPasswordFile === undefined ? (mailFrom === undefined ? undefined : '--mail-from') : '--smtp-password-file';
    if (other !== undefined) throw new Error(`${other}: needs --smtp`);
    return undefined;
  }
  const url = URL.canParse(smtp) ? new URL(smtp) : undefined;
  if (
    !url ||
    !(url.protocol === 'smtp:' || url.protocol === 'smtps:') ||
    url.hostname === '' ||
    !/^\/?$/.test(url.pathname)
  ) {
    throw new Error(`--smtp: "${smtp}" is not a mail server such as smtp://user@mail.example.com:587`);
  }
  // Other users of the machine can read the command line.
  if (url.password !== '') throw new Error('--smtp: must not contain a password; use --smtp-password-file');
  if (mailFrom === undefined) throw new Error('--mail-from: is required with --smtp');
  if (!address.test(mailFrom)) throw new Error(`--mail-from: "${mailFrom}" is not an e-mail address`);
  const user = decodeURIComponent(url.username);
  if ((user === '') !== (smtpPasswordFile === undefined)) {
    throw new Error('--smtp-password-file: is required with a user in --smtp, and only then');
  }
  return {
    ...{ host: url.hostname.replace(/^\[(.*)\]$/, '$1'), from: mailFrom, implicitTls: url.protocol === 'smtps:' },
    port: url.port === '' ? ports[url.protocol] : Number(url.port),
    ...(smtpPasswordFile !== undefined && { user, password: readPassword(smtpPasswordFile) }),
  };
}

function readPassword(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw new Error(`--smtp-password-file ${file}: ${(error as Error).message}`, { cause: error });
  }
}
