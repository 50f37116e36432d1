/** VXLAN network identifiers (RFC 7348): 24 bits; 0 is not given away. */
import { randomInt } from 'node:crypto';

export const largestVni = 2 ** 24 - 1;

/** Tries this many before it takes the numbers to be used up: by then all but a few in a thousand are. */
const probes = 2000;

/**
 * A free number. Random, so that two servers that choose at the same time do not choose the same, and a number is not
 * given again right after it was freed. Undefined when there is none left.
 */
export function randomVni(isTaken: (vni: number) => boolean): number | undefined {
  for (let probe = 0; probe < probes; probe++) {
    const vni = randomInt(1, largestVni + 1);
    if (!isTaken(vni)) return vni;
  }
  return undefined;
}
