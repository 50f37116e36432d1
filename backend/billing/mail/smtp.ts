/** The delivery of e-mails to an SMTP server. */
import { createTransport } from 'nodemailer';
import { oneLine } from '../../model/billing/mail-texts.ts';
import type { MailRecord } from '../../model/records/index.ts';

/** An e-mail with everything that the server gets. */
export interface Mail extends Pick<MailRecord, 'from' | 'to' | 'subject' | 'text'> {
  /** The part of the Message-ID before the domain. */
  readonly messageToken: string;
  readonly files: readonly { readonly name: string; readonly type: string; readonly content: Buffer }[];
}

/** The result of an attempt. `isFinal`: the server refuses this recipient or this e-mail for good. */
export type Delivery =
  | { readonly outcome: 'sent' }
  | { readonly outcome: 'refused'; readonly why: string; readonly isFinal: boolean };

/** Sends e-mails. */
export interface MailSender {
  send(mail: Mail, over: AbortSignal): Promise<Delivery>;
}

/** The settings of the mail server. */
export interface SmtpSettings {
  readonly host: string;
  readonly port: number;
  /** TLS from the first byte (`smtps`). Otherwise STARTTLS, if the server offers it. */
  readonly implicitTls: boolean;
  /** The credentials, which are never sent without TLS. */
  readonly user?: string;
  readonly password?: string;
  /** The address from which e-mails come. Answers go to the legal entity. */
  readonly from: string;
  /** The certificates of authorities in addition to those of Node, for tests. */
  readonly ca?: string;
  /** Milliseconds in which a silent server must answer. Default: 30 s. */
  readonly silenceMs?: number;
  /** Milliseconds for a whole e-mail. Default: 2 minutes. */
  readonly totalMs?: number;
}

interface SmtpError extends Error {
  readonly code?: string;
  readonly command?: string;
  readonly responseCode?: number;
}

/** The steps at which a 5xx answer speaks of the recipient or of the e-mail, and not of the login or the sender. */
const stepsOfRecipient: ReadonlySet<string | undefined> = new Set(['RCPT TO', 'DATA']);

/** Returns the sender of e-mails. */
export function createSmtpSender(settings: SmtpSettings): MailSender {
  const { host, port, implicitTls, user, password, from, ca, silenceMs = 30_000, totalMs = 120_000 } = settings;
  const domain = from.slice(from.indexOf('@') + 1);
  return {
    async send(mail, over) {
      // Each e-mail has a connection of its own, so a broken one harms no other.
      const transport = createTransport({
        ...{ host, port, secure: implicitTls, connectionTimeout: silenceMs, greetingTimeout: silenceMs },
        ...{ socketTimeout: silenceMs, disableFileAccess: true, disableUrlAccess: true },
        ...(user !== undefined && { requireTLS: true, auth: { user, pass: password ?? '' } }),
        ...(ca !== undefined && { tls: { ca } }),
      });
      const limit = AbortSignal.any([over, AbortSignal.timeout(totalMs)]);
      const { promise: ended, reject } = Promise.withResolvers<never>();
      const stop = () => reject(new Error('the mail server took too long'));
      limit.addEventListener('abort', stop, { once: true });
      try {
        const sending = transport.sendMail({
          from: { name: oneLine(mail.from.name), address: from },
          replyTo: { name: oneLine(mail.from.name), address: mail.from.email },
          to: { name: oneLine(mail.to.name), address: mail.to.email },
          subject: oneLine(mail.subject),
          text: mail.text,
          messageId: `<${mail.messageToken}@${domain}>`,
          headers: { 'Auto-Submitted': 'auto-generated' },
          attachments: mail.files.map(({ name, type, content }) => ({ filename: name, contentType: type, content })),
          signal: limit,
        } as Parameters<typeof transport.sendMail>[0]);
        await Promise.race([sending, ended]);
        return { outcome: 'sent' };
      } catch (error) {
        const { message, command, responseCode = 0 } = error as SmtpError;
        return {
          outcome: 'refused',
          why: oneLine(message).slice(0, 500),
          isFinal: responseCode >= 500 && stepsOfRecipient.has(command),
        };
      } finally {
        limit.removeEventListener('abort', stop);
        transport.close();
      }
    },
  };
}
