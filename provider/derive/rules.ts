/** Checks configured values by the rules of their fields in openapi.yaml, and returns the violations as sentences. */
import { Decimal, type Flaw, UNKNOWN } from '../framework/index.ts';
import { type Field, isSet } from './fields.ts';
import { aNoun } from './nouns.ts';
import { formats } from './semantics.ts';

const shown = (field: Field, value: unknown): string => {
  if (field.sensitive) return 'the configured value';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
};

/** The range as "between 1 and 256", "at least 1" or "at most 256". */
function range(least: number | undefined, most: number | undefined): string {
  if (least !== undefined && most !== undefined) return `between ${least} and ${most}`;
  return least !== undefined ? `at least ${least}` : `at most ${most}`;
}

const outside = (value: number, least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY): boolean =>
  value < least || value > most;

/** Returns the violation of a text. Blanks and line ends are hard to see in a value, so the violation names them. */
function textProblem(field: Field, value: string): string | undefined {
  const problem = formProblem(field, value);
  if (problem === undefined || value === value.trim() || formProblem(field, value.trim()) !== undefined) return problem;
  const what = /[\r\n]$/.test(value) ? 'ends with a line end' : 'begins or ends with a blank';
  return `${shown(field, value)} ${what}. Remove it with \`trimspace(…)\`.`;
}

/**
 * Returns a flaw as a sentence. The demand `must be a line; why` becomes `Must be a line, not "x"; why.` for the value
 * `"x"`, which is the form of all messages. Another clause, such as `has bits set`, follows the value.
 */
function flawSentence(flaw: string, value: string): string {
  const [demand = '', ...reason] = flaw.split('; ');
  if (!demand.startsWith('must ')) return `${value} ${flaw}.`;
  const contrast = /, (?:not|but) /.test(demand) ? '' : `, not ${value}`;
  return `${[`Must ${demand.slice('must '.length)}${contrast}`, ...reason].join('; ')}.`;
}

function formProblem(field: Field, value: string): string | undefined {
  if (value.includes('\0') || !value.isWellFormed()) {
    return `Must not contain NUL or unpaired surrogates, as ${shown(field, value)} does.`;
  }
  const must = (rule: string) => `Must be ${rule}, not ${shown(field, value)}.`;
  if (field.reference && field.pattern) {
    const example = field.pattern.match(/^\^([a-z]+)-/)?.[1];
    if (new RegExp(field.pattern).test(value)) return undefined;
    const noun = field.reference;
    return `Must be the id of ${aNoun(noun)} (\`${example}-…\`), such as \`ucloud_${noun}.example.id\`, not ${shown(field, value)}.`;
  }
  // JSON Schema counts characters, not UTF-16 units.
  const length = [...value].length;
  const tooLong = outside(length, field.minLength, field.maxLength)
    ? `Must have ${range(field.minLength, field.maxLength)} characters, not ${length}.`
    : undefined;
  const format = field.format === undefined ? undefined : formats[field.format];
  if (format) {
    if (format.normal(value) === undefined)
      return must(field.rule && !['mac', 'size'].includes(field.format ?? '') ? field.rule : format.rule);
    const flaw = format.flaw?.(value);
    return flaw ? flawSentence(flaw, shown(field, value)) : tooLong;
  }
  if (field.enum && !field.enum.includes(value)) {
    return must(`one of ${field.enum.map((choice) => JSON.stringify(choice)).join(', ')}`);
  }
  if (field.pattern && !new RegExp(field.pattern, 'u').test(value))
    return must(field.rule ?? `text that matches ${field.pattern}`);
  return tooLong;
}

function numberProblem(field: Field, value: number): string | undefined {
  if (field.type === 'integer' && !Number.isInteger(value)) return `Must be a whole number, not ${value}.`;
  if (outside(value, field.minimum, field.maximum))
    return `Must be ${range(field.minimum, field.maximum)}, not ${value}.`;
  return undefined;
}

const whole = (problem: string): Flaw[] => [{ path: [], problem }];

function listFlaws(field: Field, value: readonly unknown[]): Flaw[] {
  // Unknown elements of a set may turn out to be the same element.
  const countable = !isSet(field) || !value.includes(UNKNOWN);
  if (countable && outside(value.length, field.minItems, field.maxItems)) {
    return whole(`Must have ${range(field.minItems, field.maxItems)} elements, not ${value.length}.`);
  }
  const { items } = field;
  if (!items) return [];
  const seen = new Map<unknown, number>();
  return [...value.entries()].flatMap(([index, element]): Flaw[] => {
    // An element of a set has no address.
    const path = isSet(field) ? [] : [index];
    if (element === UNKNOWN) return [];
    if (element === null) return [{ path, problem: 'An element is null.' }];
    const problem = problemWith(items, element);
    if (problem) return [{ path, problem }];
    const normal = (items.format && formats[items.format]?.normal(String(element))) ?? element;
    const first = seen.get(normal);
    seen.set(normal, index);
    return field.unique && first !== undefined ? [{ path, problem: `Is the same as element ${first}.` }] : [];
  });
}

function mapFlaws(field: Field, value: Readonly<Record<string, unknown>>): Flaw[] {
  const entries = Object.entries(value);
  if (outside(entries.length, field.minItems, field.maxItems)) {
    return whole(`Must have ${range(field.minItems, field.maxItems)} entries, not ${entries.length}.`);
  }
  return entries.flatMap(([key, element]): Flaw[] => {
    const path = [key];
    const wrongKey = field.keys && textProblem(field.keys, key);
    if (wrongKey) return [{ path, problem: `Key: ${wrongKey}` }];
    if (element === UNKNOWN) return [];
    if (element === null) return [{ path, problem: 'The value is null.' }];
    const problem = field.items && problemWith(field.items, element);
    return problem ? [{ path, problem }] : [];
  });
}

/** Returns the violation of a value that is no collection, as a sentence; undefined if the value is right. */
export function problemWith(field: Field, value: unknown): string | undefined {
  if (typeof value === 'string') return textProblem(field, value);
  // JavaScript cannot hold every number, so the message contains the configured digits.
  if (typeof value === 'bigint') return numberProblem(field, Number(value));
  if (value instanceof Decimal)
    return `Must be ${field.type === 'integer' ? 'a whole number that is not as large' : 'a smaller number'}, not ${value}.`;
  return typeof value === 'number' ? numberProblem(field, value) : undefined;
}

/** Returns all violations of a value, without those in unknown parts and in the attributes of nested objects. */
export function flawsOf(field: Field, value: unknown): readonly Flaw[] {
  if (Array.isArray(value)) return listFlaws(field.fields ? ({ ...field, items: undefined } as Field) : field, value);
  if (field.type === 'map' && typeof value === 'object' && value !== null) {
    return mapFlaws(field, value as Readonly<Record<string, unknown>>);
  }
  const problem = problemWith(field, value);
  return problem === undefined ? [] : whole(problem);
}
