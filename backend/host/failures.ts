import { UcloudError } from '../contract/errors.ts';

/**
 * What the owner of a VM may read of a failure. Rules that were broken are said; what a command on the host printed
 * (paths, processes, other VMs) is the operator's, and in the log.
 */
export const forOwner = (err: unknown): string =>
  err instanceof UcloudError
    ? err.message
    : 'a step failed on the host; its operator finds the reason in the log of the agent';
