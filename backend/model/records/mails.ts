/** Records of the billing component about e-mails. */
import { type Static, Type } from '@sinclair/typebox';
import { id, kind, oneOf, time } from './form.ts';

/**
 * `mails/<cause>`: an e-mail that waits to be sent, written in the commit of its cause. The key names the cause: `bill/<bill>`,
 * `dunning/<bill>/<level>`, `prepaid/<account>/<state>/<time>`.
 */
export const mails = kind('mails/', {
  account: id('billing_account'),
  /** The company that writes, and the customer. */
  from: Type.Object({ name: Type.String(), email: Type.String() }),
  to: Type.Object({ name: Type.String(), email: Type.String() }),
  subject: Type.String(),
  text: Type.String(),
  /** The bill whose PDF is attached. */
  bill: Type.Optional(id('bill')),
  at: time,
});
export type MailRecord = Static<typeof mails.schema>;

/**
 * `sent-mails/<cause>`: the e-mail has ended. It stays, so that a cause that repeats sends nothing again. The API removes those of
 * `prepaid/` after 90 days, because each has a time of its own.
 */
export const sentMails = kind('sent-mails/', {
  outcome: oneOf(['sent', 'failed']),
  at: time,
});
