import { UcloudError } from '../contract/errors.ts';

/**
 * Returns the text of a failure for the owner of the VM. The owner sees the message of a `UcloudError`. The output of a
 * command on the host may name paths, processes or other VMs, so only the operator sees it, in the log.
 */
export const publicMessage = (err: unknown): string =>
  err instanceof UcloudError
    ? err.message
    : 'a step failed on the host; the log of the host agent contains the reason for the operator';
