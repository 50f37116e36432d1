/** JSON that people write: what `JSON.parse` would change or lose in silence is an error. */

interface Source {
  readonly source?: string;
}

/** Throws a sentence: not JSON, a member given twice, or a number that JSON.parse would round. */
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
  if (twice !== undefined) throw new Error(`the member ${twice} is there twice`);
  return value;
}

/** A member that an object of the well-formed JSON has twice, as JSON. */
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
