/**
 * Scans JSON (RFC 8259) without building values. Memory and time are proportional to the text, regardless of its
 * nesting. JSON.parse builds objects of ten times the size of the text.
 */

/** The maximum depth of arrays and objects in request bodies. The contract needs less than ten. */
export const maxDepth = 64;
/** The maximum number of values, members and items in request bodies. */
export const maxValues = 10_000;
/** The maximum depth of arrays and objects in a Terraform state. Terraform itself reads at most 10,000. */
export const maxStateDepth = 1000;

const quote = 0x22;
const comma = 0x2c;
const minus = 0x2d;
const point = 0x2e;
const zero = 0x30;
const nine = 0x39;
const colon = 0x3a;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** Returns the limit that the text exceeds; undefined if it may be parsed. The parser checks the syntax. */
export function excess(text: string): string | undefined {
  let depth = 0;
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (character === quote) {
      do {
        at = text.indexOf('"', at + 1);
        if (at < 0) return undefined;
      } while (isEscaped(text, at));
    } else if (character === openBracket || character === openBrace) {
      if (++depth > maxDepth) return `must not be nested more than ${maxDepth} deep`;
      values++;
    } else if (character === closeBracket || character === closeBrace) depth--;
    else if (character === comma) values++;
    if (values > maxValues) return `must not have more than ${maxValues} values`;
  }
  return undefined;
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0;
  while (text.charCodeAt(at - 1 - backslashes) === backslash) backslashes++;
  return backslashes % 2 === 1;
}

/** The result of a scan. */
export type Scan =
  | {
      readonly ok: true;
      /**
       * The positions of the requested members of the top-level object. The last of equal names counts, as in
       * JSON.parse.
       */
      readonly members: ReadonlyMap<string, readonly [start: number, end: number]>;
      readonly isObject: boolean;
    }
  | { readonly ok: false; readonly problem: string };

class Malformed extends Error {}

/** The maximum spelled length, in bytes, of a name that is compared: `\u0061` has six bytes for one letter. */
const maxNameLength = 128;

const words: readonly (readonly [first: number, rest: string])[] = [
  [0x74, 'true'],
  [0x66, 'false'],
  [0x6e, 'null'],
];

/** Scans a whole text of well-formed UTF-8. */
class Scanner {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  scan(wanted: ReadonlySet<string>, deepest: number): Scan {
    const bytes = this.#bytes;
    const members = new Map<string, readonly [number, number]>();
    /** The open brackets: true for objects. */
    const open: boolean[] = [];
    let name: string | undefined;
    let valueStart = 0;
    let isObject = false;
    this.#space();
    for (;;) {
      // A value starts here.
      const first = bytes[this.#at];
      if (open.length === 1) valueStart = this.#at;
      let ended = true;
      if (first === openBrace || first === openBracket) {
        if (open.length === 0) isObject = first === openBrace;
        if (open.length >= deepest) return { ok: false, problem: `must not be nested more than ${deepest} deep` };
        this.#at++;
        this.#space();
        const close = first === openBrace ? closeBrace : closeBracket;
        if (bytes[this.#at] === close) this.#at++;
        else {
          open.push(first === openBrace);
          ended = false;
          if (first === openBrace) {
            const read = this.#name(open.length === 1);
            if (open.length === 1) name = read;
          }
        }
      } else this.#scalar(first);
      if (!ended) continue;
      // A value has ended, and the values around it may end too.
      for (;;) {
        if (open.length === 1 && open[0] && name !== undefined && wanted.has(name)) {
          members.set(name, [valueStart, this.#at]);
        }
        this.#space();
        const inObject = open.at(-1);
        if (inObject === undefined) {
          if (this.#at < bytes.length) throw this.#unexpected();
          return { ok: true, members, isObject };
        }
        const next = bytes[this.#at++];
        if (next === comma) {
          this.#space();
          if (inObject) {
            const read = this.#name(open.length === 1);
            if (open.length === 1) name = read;
          }
          break;
        }
        if (next !== (inObject ? closeBrace : closeBracket)) {
          this.#at--;
          throw this.#unexpected();
        }
        open.pop();
      }
    }
  }

  #unexpected(): Malformed {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) return new Malformed('it ends too early');
    const shown = byte > 0x20 && byte < 0x7f ? `"${String.fromCharCode(byte)}"` : `the byte ${byte}`;
    return new Malformed(`unexpected ${shown} at byte ${this.#at}`);
  }

  #space(): void {
    const bytes = this.#bytes;
    for (;;) {
      const byte = bytes[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
      this.#at++;
    }
  }

  /** Scans a name and its colon. Returns the name if it is requested. */
  #name(asked: boolean): string | undefined {
    const start = this.#at;
    if (this.#bytes[start] !== quote) throw this.#unexpected();
    this.#string();
    const end = this.#at;
    this.#space();
    if (this.#bytes[this.#at] !== colon) throw this.#unexpected();
    this.#at++;
    this.#space();
    if (!asked || end - start > maxNameLength) return undefined;
    return JSON.parse(this.#bytes.toString('utf8', start, end)) as string;
  }

  #string(): void {
    const bytes = this.#bytes;
    for (this.#at++; ; this.#at++) {
      const byte = bytes[this.#at];
      if (byte === undefined || byte < 0x20) throw this.#unexpected();
      if (byte === quote) break;
      if (byte !== backslash) continue;
      const escaped = bytes[++this.#at];
      if (escaped === 0x75) {
        for (let i = 0; i < 4; i++) if (!isHex(bytes[++this.#at])) throw this.#unexpected();
      } else if (escaped === undefined || !'"\\/bfnrt'.includes(String.fromCharCode(escaped))) throw this.#unexpected();
    }
    this.#at++;
  }

  #scalar(first: number | undefined): void {
    if (first === quote) this.#string();
    else if (first === minus || isDigit(first)) this.#number();
    else this.#word(first);
  }

  #word(first: number | undefined): void {
    const word = words.find(([letter]) => letter === first)?.[1];
    if (word === undefined) throw this.#unexpected();
    for (const letter of word) {
      if (this.#bytes[this.#at] !== letter.charCodeAt(0)) throw this.#unexpected();
      this.#at++;
    }
  }

  #digits(): void {
    if (!isDigit(this.#bytes[this.#at])) throw this.#unexpected();
    while (isDigit(this.#bytes[this.#at])) this.#at++;
  }

  #number(): void {
    const bytes = this.#bytes;
    if (bytes[this.#at] === minus) this.#at++;
    if (bytes[this.#at] === zero) this.#at++;
    else this.#digits();
    if (bytes[this.#at] === point) {
      this.#at++;
      this.#digits();
    }
    if (bytes[this.#at] === 0x65 || bytes[this.#at] === 0x45) {
      this.#at++;
      if (bytes[this.#at] === 0x2b || bytes[this.#at] === minus) this.#at++;
      this.#digits();
    }
  }
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= zero && byte <= nine;
const isHex = (byte: number | undefined): boolean =>
  isDigit(byte) || (byte !== undefined && ((byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66)));

/**
 * Checks that well-formed UTF-8 is JSON with at most the depth `deepest`, and returns the positions of the `wanted`
 * members.
 */
export function scanJson(bytes: Buffer, wanted: ReadonlySet<string>, deepest: number): Scan {
  try {
    return new Scanner(bytes).scan(wanted, deepest);
  } catch (error) {
    if (error instanceof Malformed) return { ok: false, problem: `must be JSON: ${error.message}` };
    throw error;
  }
}
