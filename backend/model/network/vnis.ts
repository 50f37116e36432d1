/** VXLAN network identifiers (VNIs, RFC 7348): 24 bits. ucloud does not use 0. */
import { randomInt } from 'node:crypto';

/** The largest VNI of a network. The one after it belongs to the transit between hosts (fabric.ts). */
export const maxVni = 2 ** 24 - 2;

/** The maximum number of random tries. If all of them fail, more than 99 % of the VNIs are in use. */
const maxProbes = 2000;

/**
 * Returns a free VNI, or undefined if there is none. The choice is random: two servers that choose at the same time
 * then choose different VNIs, and a freed VNI is not reused at once.
 */
export function randomVni(isTaken: (vni: number) => boolean): number | undefined {
  for (let probe = 0; probe < maxProbes; probe++) {
    const vni = randomInt(1, maxVni + 1);
    if (!isTaken(vni)) return vni;
  }
  return undefined;
}
