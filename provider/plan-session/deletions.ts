/** The wait for planned deletions. */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Gives Terraform 250 ms to plan deletions before a check reports a refusal. There is no state to wait for: Terraform plans
 * deletions in any order, mostly early, and announces no end of planning.
 */
export const deletionGrace = (): Promise<void> => sleep(250);
