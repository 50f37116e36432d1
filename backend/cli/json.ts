/** JSON that users write. A value that `JSON.parse` would silently change or drop is an error. */

interface Source {
  readonly source?: string;
}

/** Parses JSON. @throws Error for malformed JSON, a repeated member, or a number that JSON.parse would round */
export function parseJson(text: string): unknown {
  const exact = (_key: string, value: unknown, context?: Source): unknown => {
    if (typeof value !== 'number') return value;
    const written = context?.source ?? '';
    const whole = /^-?[0-9]+$/.test(written);
    if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value))) {
      throw new Error(`the number ${written.slice(0, 40)} cannot be sent exactly`);
    }
    return value;
  };
  const value: unknown = JSON.parse(text, exact as (key: string, value: unknown) => unknown);
  const twice = repeatedMember(text);
  if (twice !== undefined) throw new Error(`the member ${twice} is given twice`);
  return value;
}

/** Returns a repeated member of well-formed JSON; undefined if there is none. */
function repeatedMember(text: string): string | undefined {
  const open: Set<string>[] = [];
  for (const [, name, bracket] of text.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|([{}])/gs)) {
    if (bracket === '{') open.push(new Set());
    else if (bracket === '}') open.pop();
    else if (name !== undefined) {
      const key = JSON.stringify(JSON.parse(name));
      const members = open.at(-1);
      if (members?.has(key)) return key;
      members?.add(key);
    }
  }
  return undefined;
}
