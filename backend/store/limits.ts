/**
 * The limits of keys, values and commits. Both drivers check them first, so that code for the embedded store does not
 * exceed a limit of etcd later. A violation is a bug of the caller and therefore a RangeError. The API contract limits
 * user input long before.
 */
import type { Commit, Condition, Write } from './store.ts';

/** The maximum size of a value, in UTF-8 bytes. */
export const maxValueBytes = 1024 * 1024;
/** The maximum number of conditions, and of writes, in one commit: etcd's default of `--max-txn-ops`. */
export const maxOperations = 128;
/**
 * The maximum size of all keys and values of one commit, in UTF-8 bytes. etcd's default of `--max-request-bytes` is 1.5
 * MiB, including its encoding.
 */
const maxCommitBytes = 1408 * 1024;
const maxKeyBytes = 1024;

const keyForm = /^[!-.0-~][!-~]*$/;
const prefixForm = /^(?:[!-.0-~][!-~]*)?$/;

/** @throws RangeError if the text is not a valid key */
export function checkKey(key: string): void {
  if (!keyForm.test(key) || key.length > maxKeyBytes)
    throw new RangeError(
      `store key ${JSON.stringify(key.slice(0, 100))} must be 1 to ${maxKeyBytes} printable ASCII characters without spaces and without a leading slash`,
    );
}

/** @throws RangeError if the text is not a valid key prefix */
export function checkPrefix(prefix: string): void {
  if (!prefixForm.test(prefix) || prefix.length > maxKeyBytes)
    throw new RangeError(`store prefix ${JSON.stringify(prefix.slice(0, 100))} is not printable ASCII`);
}

/** @throws RangeError if the number is not a revision */
export function checkRevision(revision: number): void {
  if (!Number.isSafeInteger(revision) || revision < 0)
    throw new RangeError(`revision ${revision} is not an integer of at least 0`);
}

/** @throws RangeError if the number is not a positive integer */
export function checkLimit(limit: number): void {
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError(`limit ${limit} is not an integer from 1 on`);
}

/**
 * Checks the time to live of a lease, in seconds.
 * @throws RangeError if it is shorter than 1 s
 */
export function checkTtl(ttl: number): void {
  if (!(ttl >= 1 && Number.isFinite(ttl))) throw new RangeError(`ttl ${ttl} is not a number of at least 1 second`);
}

/**
 * Returns the first string after all keys with the prefix. Keys are printable ASCII, so the last character has a
 * successor.
 */
export function prefixEnd(prefix: string): string {
  if (prefix === '') return '\x7f';
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}

function checkCondition(condition: Condition): void {
  if ('prefix' in condition) checkPrefix(condition.prefix);
  else checkKey(condition.key);
  // etcd reads revision 0 as "absent", for which the store has its own condition.
  if ('revision' in condition && !(Number.isSafeInteger(condition.revision) && condition.revision >= 1))
    throw new RangeError(`condition on ${condition.key}: revision ${condition.revision} is not an integer from 1 on`);
}

function writeSizeBytes(write: Write): number {
  if ('delete' in write) {
    checkKey(write.delete);
    return write.delete.length;
  }
  if ('deletePrefix' in write) {
    checkPrefix(write.deletePrefix);
    return write.deletePrefix.length;
  }
  checkKey(write.put);
  const bytes = Buffer.byteLength(write.value);
  if (bytes > maxValueBytes) throw new RangeError(`value of ${write.put} has ${bytes} bytes, limit ${maxValueBytes}`);
  return write.put.length + bytes;
}

/**
 * Checks the limits of a commit.
 * @throws RangeError that names the violated limit
 */
export function checkCommit({ require = [], write }: Commit): void {
  if (require.length > maxOperations || write.length > maxOperations)
    throw new RangeError(
      `commit has ${require.length} conditions and ${write.length} writes, limit ${maxOperations} of each`,
    );
  require.forEach(checkCondition);
  let bytes = 0;
  const keys = new Set<string>();
  for (const one of write) {
    bytes += writeSizeBytes(one);
    if ('deletePrefix' in one) continue;
    const key = 'put' in one ? one.put : one.delete;
    if (keys.has(key)) throw new RangeError(`commit writes ${key} twice`);
    keys.add(key);
  }
  for (const one of write) {
    if (!('deletePrefix' in one)) continue;
    for (const key of keys)
      if (key.startsWith(one.deletePrefix)) throw new RangeError(`commit writes ${key} and deletes its prefix`);
  }
  if (bytes > maxCommitBytes) throw new RangeError(`commit has ${bytes} bytes, limit ${maxCommitBytes}`);
}
