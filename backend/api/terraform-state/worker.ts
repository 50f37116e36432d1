/** A thread that works on one state at a time. Bytes are transferred, not copied. */
import { parentPort } from 'node:worker_threads';
import { type Job, perform } from './work.ts';

/** Returns the buffers that can be transferred: only those that no other array uses. */
const own = (bytes: Uint8Array): ArrayBuffer[] =>
  bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength ? [bytes.buffer] : [];

parentPort?.on('message', (job: Job) => {
  const result = perform(job);
  const bytes = [...('bytes' in result ? own(result.bytes) : []), ...('sealed' in result ? own(result.sealed) : [])];
  parentPort?.postMessage(result, bytes);
});
