/**
 * The control socket of bird, which `birdc` uses as well. An answer consists of lines `<code><separator><text>`: a minus
 * continues the answer, and a space ends it. A line that begins with a space repeats the last code. Codes from 8000 on
 * are errors.
 */
import { connect } from 'node:net';

/** bird has refused a command. */
export class BirdError extends Error {
  override name = 'BirdError';
}

/** bird has not answered in time, or there is no bird. */
export class BirdSilent extends Error {
  override name = 'BirdSilent';
}

/** The limits of an answer. bird may hang, and its texts may come from a peer. */
export interface AnswerLimits {
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

const defaultLimits: AnswerLimits = { timeoutMs: 5_000, maxBytes: 1024 * 1024 };

/** Returns the lines of a complete answer without codes, and whether it is an error; undefined while lines are missing. */
function complete(text: string): { readonly lines: readonly string[]; readonly isError: boolean } | undefined {
  const lines = text.split('\n').slice(0, -1);
  const end = lines.findIndex((line) => /^\d{4} /.test(line));
  if (end < 0) return undefined;
  const answer = lines.slice(0, end + 1);
  return {
    lines: answer.map((line) => line.replace(/^(\d{4}[- ]| )/, '')),
    isError: answer.some((line) => /^[89]\d{3}/.test(line)),
  };
}

/**
 * Sends a command, and returns the lines of the answer.
 * @throws BirdError if bird refuses the command; BirdSilent if it does not answer within the limits
 */
export function askBird(path: string, command: string, limits: Partial<AnswerLimits> = {}): Promise<string[]> {
  const { timeoutMs, maxBytes } = { ...defaultLimits, ...limits };
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  const socket = connect(path);
  const deadline = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
  let text = '';
  let isGreeted = false;
  const end = () => {
    clearTimeout(deadline);
    socket.destroy();
  };
  const fail = (reason: string) => {
    end();
    reject(new BirdSilent(`bird: ${command}: ${reason}`));
  };
  socket.setEncoding('utf8');
  socket.on('error', ({ message }) => fail(message));
  socket.on('close', () => fail('the connection was closed'));
  socket.on('data', (part: string) => {
    text += part;
    if (text.length > maxBytes) return fail(`the answer has more than ${maxBytes} bytes`);
    if (!isGreeted) {
      const greeting = text.indexOf('\n');
      if (greeting < 0) return;
      text = text.slice(greeting + 1);
      isGreeted = true;
      socket.write(`${command}\n`);
    }
    const answer = complete(text);
    if (answer === undefined) return;
    end();
    if (answer.isError) reject(new BirdError(answer.lines.filter((line) => line !== '').join(' ')));
    else resolve([...answer.lines]);
  });
  return promise;
}
