/**
 * What a key, a value and a commit may be. Both drivers ask here first, so that code which runs on the embedded store
 * does not meet a limit of etcd later. Breaking one is a fault of the caller's code, hence a RangeError and no code of
 * the error table: what users send is limited by the contract long before.
 */
import type { Commit, Condition, Write } from './store.ts';

/** UTF-8 bytes of one value. */
export const maxValueBytes = 1024 * 1024;
/** Conditions, and writes, of one commit: etcd's default `--max-txn-ops`. */
export const maxOperations = 128;
/** UTF-8 bytes of all keys and values of one commit; etcd's default `--max-request-bytes` is 1.5 MiB with framing. */
const maxCommitBytes = 1408 * 1024;
const maxKeyBytes = 1024;

const keyForm = /^[!-.0-~][!-~]*$/;
const prefixForm = /^(?:[!-.0-~][!-~]*)?$/;

export function checkKey(key: string): void {
  if (!keyForm.test(key) || key.length > maxKeyBytes)
    throw new RangeError(
      `store key ${JSON.stringify(key.slice(0, 100))} is not 1 to ${maxKeyBytes} printable ASCII characters without spaces and a leading slash`,
    );
}

export function checkPrefix(prefix: string): void {
  if (!prefixForm.test(prefix) || prefix.length > maxKeyBytes)
    throw new RangeError(`store prefix ${JSON.stringify(prefix.slice(0, 100))} is not printable ASCII`);
}

export function checkRevision(revision: number): void {
  if (!Number.isSafeInteger(revision) || revision < 0)
    throw new RangeError(`revision ${revision} is not an integer from 0 on`);
}

export function checkLimit(limit: number): void {
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError(`limit ${limit} is not an integer from 1 on`);
}

/** Of a lease, in seconds. */
export function checkTtl(ttl: number): void {
  if (!(ttl >= 1 && Number.isFinite(ttl))) throw new RangeError(`ttl ${ttl} is not a number of seconds from 1 on`);
}

/** The first string after all that start with `prefix`. Keys are printable ASCII, so the last character can be raised. */
export function prefixEnd(prefix: string): string {
  if (prefix === '') return '\x7f';
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}

function checkCondition(condition: Condition): void {
  if ('prefix' in condition) checkPrefix(condition.prefix);
  else checkKey(condition.key);
  // Revision 0 would mean "absent" to etcd, and there is a condition for that.
  if ('revision' in condition && !(Number.isSafeInteger(condition.revision) && condition.revision >= 1))
    throw new RangeError(`condition on ${condition.key}: revision ${condition.revision} is not an integer from 1 on`);
}

function sizeOf(write: Write): number {
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

/** Throws a RangeError that names the rule if the commit may not be sent to any store. */
export function checkCommit({ require = [], write }: Commit): void {
  if (require.length > maxOperations || write.length > maxOperations)
    throw new RangeError(
      `commit has ${require.length} conditions and ${write.length} writes, limit ${maxOperations} of each`,
    );
  require.forEach(checkCondition);
  let bytes = 0;
  const keys = new Set<string>();
  for (const one of write) {
    bytes += sizeOf(one);
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
