/** The standard output of a program as a stream. */
import type { ChildProcessByStdio } from 'node:child_process';
import { type Readable, Transform, type TransformCallback } from 'node:stream';

const maxMessageLength = 500;

/** The output. It ends when the program has ended without an error. */
class ProgramOutput extends Transform {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #ended: Promise<number | null>;
  #messages = '';

  constructor(child: ChildProcessByStdio<null, Readable, Readable>) {
    super({ readableHighWaterMark: 2 ** 20 });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#messages = (this.#messages + text).slice(-maxMessageLength);
    });
    this.#ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    this.#ended.catch((error: unknown) => this.destroy(error as Error));
    child.stdout.on('error', (error) => this.destroy(error));
    child.stdout.pipe(this);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    this.#ended.then((code) => {
      if (code === 0) done();
      else
        done(new Error(`a program ended with the code ${code}: ${this.#messages.replaceAll(/\p{C}+/gu, ' ').trim()}`));
    }, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // A program that waits for a device ends later.
    this.#child.kill('SIGKILL');
    this.#child.stdout.destroy();
    done(error);
  }
}

/**
 * Returns the output. The stream fails if the program fails. The end of the stream ends the program.
 * @param child a program whose standard output and error are pipes, just started
 */
export const programOutput = (child: ChildProcessByStdio<null, Readable, Readable>): Readable =>
  new ProgramOutput(child);
