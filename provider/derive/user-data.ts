/** User data as the guest runs it: which will never run, and why. ucloud-init runs a script that begins with `#!` only. */

/** Bytes that Linux reads of the line of the interpreter (BINPRM_BUF_SIZE, without the end of the text). */
const longestInterpreter = 255;

/** The line ends of a script are LF, whatever the system that it was checked out on. Other user data stays as it is. */
export const normalUserData = (text: string): string => (text.startsWith('#!') ? text.replaceAll('\r\n', '\n') : text);

export const sameUserData = (a: unknown, b: unknown): boolean =>
  a === b || (typeof a === 'string' && typeof b === 'string' && normalUserData(a) === normalUserData(b));

export interface Odd {
  readonly summary: string;
  readonly detail: string;
}

const ignored = (
  what: string,
  more = 'ucloud-init runs only a script that begins with `#!`, such as `#!/bin/sh`.',
) => ({
  summary: 'This user data will not run',
  detail: `It ${what}: ${more}`,
});

/** Names the kind of user data that is no script, by its beginning. */
const others: readonly (readonly [start: RegExp, what: string])[] = [
  [/^#cloud-config/, 'is a cloud-config document'],
  [/^(#cloud-boothook|#include|#part-handler|## template:)/, 'is in a format of cloud-init'],
  [/^(Content-Type:|MIME-Version:)/i, 'is a MIME document of cloud-init'],
  [/^H4sI/, 'is compressed, in base64'],
  [/^IyE/, 'is in base64'],
  [/^\ufeff#!/, 'begins with a byte order mark'],
  [/^\s+#!/, 'begins with a blank or an empty line'],
];

/** Returns a warning about the user data for a plan; undefined without one. */
export function oddUserData(text: string): Odd | undefined {
  if (text === '') return ignored('is empty', 'leave it out where there is nothing to run.');
  if (!text.startsWith('#!')) {
    return ignored(others.find(([start]) => start.test(text))?.[1] ?? 'does not begin with `#!`');
  }
  const [line = ''] = normalUserData(text).split('\n', 1);
  const interpreter = line.slice(2).trim();
  if (interpreter === '') return ignored('names no interpreter', 'a path has to follow `#!`, such as `#!/bin/sh`.');
  if (!interpreter.startsWith('/')) {
    return ignored('names no path after `#!`', 'the interpreter has to be a path from the root, such as `/bin/sh`.');
  }
  if (line.includes('\r')) return ignored('has a carriage return in its first line', 'the interpreter is not found.');
  if (Buffer.byteLength(line) > longestInterpreter) {
    return ignored('has too long a first line', `Linux reads ${longestInterpreter} bytes of it.`);
  }
  if (!text.includes('\r\n')) return undefined;
  return {
    summary: 'This user data has line ends of Windows',
    detail:
      'Its lines end with CRLF, with which it would not run. The VM is given it with LF instead; a difference in line ends alone is no change.',
  };
}
