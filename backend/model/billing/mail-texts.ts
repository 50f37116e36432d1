/** The texts of e-mails to customers. Pure. Names come from users, so each is one line wherever it stands in a header. */

import type {
  BillingAccountRecord,
  BillRecord,
  LegalEntityRecord,
  MailRecord,
  PrepaidRecord,
} from '../records/index.ts';
import type { BillTotals } from './bill-document.ts';
import type { DunningLevel } from './dunning.ts';
import { amountOf } from './money.ts';

/** Returns the text as one line without control characters. Line breaks would begin new headers. */
export const oneLine = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes
  text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();

type Parties = {
  readonly account: Pick<BillingAccountRecord, 'id' | 'legal_name' | 'email'>;
  readonly entity: Pick<LegalEntityRecord, 'legal_name' | 'email'>;
};

/** The parts of an e-mail that its cause determines. */
export interface MailText {
  readonly subject: string;
  /** Paragraphs. */
  readonly body: readonly string[];
}

/** Returns the record of an e-mail from a company to a customer. */
export const mailRecord = (
  { account, entity }: Parties,
  { subject, body }: MailText,
  at: string,
  bill?: MailRecord['bill'],
): MailRecord => ({
  account: account.id,
  from: { name: oneLine(entity.legal_name), email: entity.email },
  to: { name: oneLine(account.legal_name), email: account.email },
  subject: oneLine(subject),
  text: [`Dear ${oneLine(account.legal_name)},`, ...body, `Kind regards,\n${oneLine(entity.legal_name)}`].join('\n\n'),
  ...(bill !== undefined && { bill }),
  at,
});

type Totals = Pick<BillTotals, 'prepaid' | 'due'>;

type Facts = Pick<BillRecord, 'number' | 'month' | 'currency' | 'gross' | 'due_date'>;

/** Returns the text about a new bill. It asks only for what the money of a prepaid account does not pay. */
export function billText({ number, month, currency, gross, due_date }: Facts, { prepaid, due }: Totals): MailText {
  const amount = `The bill ${number} for ${month} is attached. It amounts to ${currency} ${gross}.`;
  const rest =
    prepaid === undefined
      ? [`Please pay it until ${due_date}.`]
      : amountOf(due) > 0n
        ? [
            `${currency} ${prepaid} of it are paid from the money of your account.`,
            `Please pay the rest of ${currency} ${due} until ${due_date}.`,
          ]
        : ['It is paid from the money of your account. Nothing is to be paid.'];
  return { subject: `Bill ${number}`, body: [amount, ...rest] };
}

/** Returns the text of a reminder. @param open the amount that is not paid */
export const dunningText = (
  { number, currency, gross, due_date }: Facts,
  { title, text, fee }: DunningLevel,
  open: string,
): MailText => ({
  subject: `${title}: bill ${number}`,
  body: [
    ...(text === '' ? [] : [text]),
    `Bill: ${number}\nDue on: ${due_date}\nAmount: ${currency} ${gross}\nOpen: ${currency} ${open}`,
    ...(fee === undefined ? [] : [`Fee for this reminder: ${currency} ${fee}`]),
  ],
});

/** Returns the event and the e-mail about the state of a prepaid account. @param available the money that is left */
export function prepaidText(
  { currency }: Pick<BillingAccountRecord, 'currency'>,
  { state, warned }: PrepaidRecord,
  available: string,
): { readonly event: string; readonly mail: MailText } {
  const money = `${currency} ${available}`;
  const days = warned === 1 ? '1 day' : `${warned} days`;
  const told = {
    ok: ['Your account has money again', `The account has ${money}. Start your VMs yourself if they were stopped.`],
    low: [
      `Your account lasts for ${days}`,
      `The account has ${money}, which lasts for ${days} at most at the present cost.`,
    ],
    empty: ['Your account is empty', `The account has ${money}. Its VMs are stopped, and nothing new can be created.`],
    lapsed: ['Your account is empty for too long', `The account has ${money}, and its grace period is over.`],
  } as const;
  const [subject, event] = told[state];
  const rest = state === 'ok' ? [] : ['Please transfer money to continue.'];
  return { event, mail: { subject, body: [event, ...rest] } };
}
