/** The standard output of a program as a stream. */
import type { ChildProcessByStdio } from 'node:child_process';
import { Readable } from 'node:stream';

const maxMessageLength = 500;

/**
 * Returns the output. The stream fails if the program fails. The end of the stream ends the program, which may still wait for
 * a device afterwards.
 * @param child a program whose standard output and error are pipes, just started
 */
export function programOutput(child: ChildProcessByStdio<null, Readable, Readable>): Readable {
  let messages = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    messages = (messages + text).slice(-maxMessageLength);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  ended.catch(() => undefined);
  async function* parts() {
    try {
      yield* child.stdout;
      const code = await ended;
      if (code !== 0) {
        throw new Error(`a program ended with the code ${code}: ${messages.replaceAll(/\p{C}+/gu, ' ').trim()}`);
      }
    } finally {
      child.kill('SIGKILL');
    }
  }
  return Readable.from(parts(), { objectMode: false, highWaterMark: 2 ** 20 });
}
