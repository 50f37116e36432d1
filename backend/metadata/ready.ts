/**
 * Records the readiness of a guest. The commit requires that the placement on this host is unchanged. So a guest whose
 * VM has been placed elsewhere meanwhile changes nothing.
 */
import { type UserDataResult, userDataResults } from '../contract/resources/vms.ts';
import { newEvent } from '../model/events.ts';
import { events, type GuestRecord, guests, reports, vms } from '../model/records/index.ts';
import { present, put, read, unchanged } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import type { Guest } from './identity.ts';

type EventText = { readonly reason: string; readonly message: string };

/** The events for the owner of a VM whose user data did not run well. */
const userDataEvents: Readonly<Partial<Record<UserDataResult, EventText>>> = {
  failed: {
    reason: 'user_data_failed',
    message:
      'The user data ended with an error. Its output is in the guest: /var/log/ucloud-init-user-data.log, or /var/log/cloud-init-output.log with cloud-init.',
  },
  ignored: {
    reason: 'user_data_ignored',
    message:
      'The guest ignored its user data: ucloud-init runs only a script that begins with #!, and cloud-init runs user data only at the first boot.',
  },
  interrupted: {
    reason: 'user_data_interrupted',
    message:
      'The guest stopped while it ran its user data. ucloud-init does not run the same user data again; it runs changed user data.',
  },
  unavailable: {
    reason: 'user_data_unavailable',
    message: 'The guest could not get its user data. ucloud-init asks again at the next boot of the guest.',
  },
};

/**
 * Parses the report of ucloud-init or of our vendor data on user data. The report has lines such as `user_data=failed` and `exit_code=3`. The
 * text is hostile input, so only results of the contract and exit codes up to 255 are used.
 */
export function readReport(body: string): Omit<GuestRecord, 'ready_at'> {
  const reported = /^user_data=([a-z]{1,20})$/m.exec(body)?.[1];
  // ucloud-init sends `unknown` if it could not get the user data.
  const name = reported === 'unknown' ? 'unavailable' : reported;
  const user_data = userDataResults.find((result) => result === name);
  const code = Number(/^exit_code=([0-9]{1,3})$/m.exec(body)?.[1] ?? Number.NaN);
  return {
    ...(user_data !== undefined && { user_data }),
    ...(user_data === 'failed' && code <= 255 && { exit_code: code }),
  };
}

/**
 * Writes the readiness of the guest, once for each start of the VM. Further calls change nothing.
 * @param body the report of ucloud-init
 * @returns false if the placement or the VM has changed; the guest may then send the report again
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function recordReady(store: Store, { vm, placement }: Guest, body: string): Promise<boolean> {
  const [guest, report] = await Promise.all([read(store, guests, vm.id), read(store, reports, vm.id)]);
  const started = report?.value.started_at;
  if (guest && started !== undefined && Date.parse(guest.value.ready_at) >= Date.parse(started)) return true;

  const said = readReport(body);
  const now = new Date();
  const at = now.toISOString();
  const event = (severity: 'info' | 'warning', reason: string, message: string) =>
    put(events, ...newEvent(now, vm.value, { severity, reason, message }));
  const write = [
    put(guests, vm.id, { ready_at: at, ...said }),
    event('info', 'ready', 'The guest reports that its initialisation has finished.'),
  ];
  const userDataEvent = said.user_data && userDataEvents[said.user_data];
  if (userDataEvent) write.push(event('warning', userDataEvent.reason, userDataEvent.message));
  const done = await store.commit({ require: [unchanged(placement), present(vms, vm.id)], write });
  return done.ok;
}
