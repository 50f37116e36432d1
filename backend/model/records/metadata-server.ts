/** Records that only the metadata server writes. The simulated hypervisor stands in for guest and metadata server. */
import { type Static, Type } from '@sinclair/typebox';
import { userDataResults } from '../../contract/resources/vms.ts';
import { kind, oneOf, time } from './form.ts';

/** `guests/<vm>`: the reports of the guest. The record is removed with the report of the host. */
export const guests = kind('guests/', {
  ready_at: time,
  /** The result of the user data. Earlier versions omit it, and an unknown result is omitted too. */
  user_data: Type.Optional(oneOf(userDataResults)),
  exit_code: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type GuestRecord = Static<typeof guests.schema>;
