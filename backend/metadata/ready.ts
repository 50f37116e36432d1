/**
 * A guest says that it is ready. Believed only while this host holds the VM's placement: the commit is conditioned on
 * it, so that the word of a guest that has been placed elsewhere in the meantime changes nothing.
 */
import { newEvent } from '../model/events.ts';
import { events, guests, reports, vms } from '../model/records.ts';
import { present, put, read, unchanged } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import type { Guest } from './identity.ts';

/** What the owner is told, by what ucloud-init says of user data in the body: `user_data=failed`. */
const troubles: Readonly<Record<string, { readonly reason: string; readonly message: string }>> = {
  failed: {
    reason: 'user_data_failed',
    message: 'The user data ended with an error. Its output is in /var/log/ucloud-init-user-data.log of the guest.',
  },
  interrupted: {
    reason: 'user_data_interrupted',
    message: 'The guest went down while it ran its user data. What has begun once is not run again; a change of it is.',
  },
  unknown: {
    reason: 'user_data_unavailable',
    message: 'The guest could not get its user data. It asks again at its next boot.',
  },
};
const troubleIn = (body: string) => {
  const word = /^user_data=([a-z]+)$/m.exec(body)?.[1] ?? '';
  return Object.hasOwn(troubles, word) ? troubles[word] : undefined;
};

/**
 * Writes it once for each start of the VM; further calls change nothing.
 * @returns false if the placement has changed: the guest may ask again, if it still exists.
 */
export async function recordReady(store: Store, { vm, placement }: Guest, body: string): Promise<boolean> {
  const [guest, report] = await Promise.all([read(store, guests, vm.id), read(store, reports, vm.id)]);
  const started = report?.value.started_at;
  if (guest && started !== undefined && Date.parse(guest.value.ready_at) >= Date.parse(started)) return true;

  const now = new Date();
  const at = now.toISOString();
  const event = (severity: 'info' | 'warning', reason: string, message: string) =>
    put(events, ...newEvent(now, vm.value, { severity, reason, message }));
  const write = [
    put(guests, vm.id, { ready_at: at }),
    event('info', 'ready', 'ucloud-init in the guest reports that it is done.'),
  ];
  const trouble = troubleIn(body);
  if (trouble) write.push(event('warning', trouble.reason, trouble.message));
  const done = await store.commit({ require: [unchanged(placement), present(vms, vm.id)], write });
  return done.ok;
}
