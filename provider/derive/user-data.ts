/** Warnings about user data that the guest will not run. ucloud-init runs only a script that begins with `#!`. */

/** The number of bytes that Linux reads from the first line of a script (BINPRM_BUF_SIZE without the final zero). */
const maxInterpreterBytes = 255;

/** Returns user data in its normal form: a script has LF line ends, as a checkout on Windows may add CR. */
export const normalUserData = (text: string): string => (text.startsWith('#!') ? text.replaceAll('\r\n', '\n') : text);

/** Returns true if both values are the same user data. */
export const sameUserData = (a: unknown, b: unknown): boolean =>
  a === b || (typeof a === 'string' && typeof b === 'string' && normalUserData(a) === normalUserData(b));

/** A warning for the user. */
export interface UserDataWarning {
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
export function warningForUserData(text: string): UserDataWarning | undefined {
  if (text === '') return ignored('is empty', 'remove the attribute if the VM has nothing to run.');
  if (!text.startsWith('#!')) {
    return ignored(others.find(([start]) => start.test(text))?.[1] ?? 'does not begin with `#!`');
  }
  const [line = ''] = normalUserData(text).split('\n', 1);
  const interpreter = line.slice(2).trim();
  if (interpreter === '') return ignored('names no interpreter', 'a path must follow `#!`, such as `#!/bin/sh`.');
  if (!interpreter.startsWith('/')) {
    return ignored('names no path after `#!`', 'the interpreter must be a path from the root, such as `/bin/sh`.');
  }
  if (line.includes('\r'))
    return ignored('has a carriage return in its first line', 'Linux does not find the interpreter.');
  if (Buffer.byteLength(line) > maxInterpreterBytes) {
    return ignored('has too long a first line', `Linux reads only ${maxInterpreterBytes} bytes of it.`);
  }
  if (!text.includes('\r\n')) return undefined;
  return {
    summary: 'This user data has Windows line ends',
    detail:
      'A script with CRLF line ends does not run, so the provider sends it with LF. A difference in line ends alone is no change.',
  };
}
