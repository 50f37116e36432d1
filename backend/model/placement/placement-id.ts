/** The ids of placements: `<host>/<vm>`. The placements of one host lie together, so its agent lists only these. */
import type { Id } from '../../contract/fields.ts';
import { idFrom } from '../ids.ts';

/** Returns the id of a placement. */
export const placementId = (host: Id<'host'>, vm: Id<'vm'>): string => `${host}/${vm}`;

/** Returns the common beginning of the ids of a host's placements. */
export const placementsOn = (host: Id<'host'>): string => `${host}/`;

/** Returns the host and the VM of a placement. */
export function parsePlacementId(id: string): { readonly host: Id<'host'>; readonly vm: Id<'vm'> } {
  const [host = '', vm = ''] = id.split('/');
  return { host: idFrom('host', host), vm: idFrom('vm', vm) };
}
