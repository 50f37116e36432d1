/**
 * Warnings about user data that no guest runs. ucloud-init runs a script that begins with `#!`, and cloud-init also its
 * own formats. A plan does not know which of them an image contains.
 */

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
  more = 'it must be a script that begins with `#!`, or, for images with cloud-init, begin with a mark such as `#cloud-config`.',
) => ({
  summary: 'This user data will not run',
  detail: `It ${what}: ${more}`,
});

/** The beginnings of cloud-init's formats (https://docs.cloud-init.io/en/latest/explanation/format.html). */
const cloudInitFormats = /^(#cloud-(config|boothook)|#include|#part-handler|## template:|Content-Type:|MIME-Version:)/i;

/** Names the fault of other user data, by its beginning. */
const faults: readonly (readonly [start: RegExp, what: string])[] = [
  [/^H4sI/, 'is compressed, in base64'],
  [/^IyE/, 'is in base64'],
  [/^\ufeff#!/, 'begins with a byte order mark'],
  [/^\s+#!/, 'begins with a blank or an empty line'],
];

/** Returns a warning about the user data for a plan; undefined without one. */
export function warningForUserData(text: string): UserDataWarning | undefined {
  if (text === '') return ignored('is empty', 'remove the attribute if the VM has nothing to run.');
  if (cloudInitFormats.test(text)) return undefined;
  if (!text.startsWith('#!')) {
    return ignored(
      faults.find(([start]) => start.test(text))?.[1] ?? 'is neither a script nor in a format of cloud-init',
    );
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
