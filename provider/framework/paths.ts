/** Attribute paths: the value at a path, and paths as text and as messages for Terraform. */
import type { AttributePath as AttributePathMessage } from '../protocol/messages.ts';
import { isObject } from '../protocol/types.ts';
import { Dynamic, type Type, type Value } from '../protocol/values.ts';
import type { Encodable } from '../protocol/wire.ts';
import type { Attributes } from './attributes.ts';
import type { AttributePath } from './diagnostics.ts';
import { objectType } from './schema.ts';

/** Returns the value at a path; null if there is none. */
export function valueAt(value: Value, path: AttributePath): Value {
  let current: Value = value;
  for (const step of path) {
    if (current instanceof Dynamic) current = current.value;
    if (Array.isArray(current) && typeof step === 'number') current = (current as readonly Value[])[step] ?? null;
    else if (isObject(current) && Object.hasOwn(current, step)) current = current[step] ?? null;
    else return null;
  }
  return current;
}

/** Returns the type of the value at a path; undefined if there is none. */
export function typeAt(attributes: Attributes, path: AttributePath): Type | undefined {
  let type: Type | undefined = objectType(attributes);
  for (const step of path) {
    if (type === undefined || typeof type === 'string') return undefined;
    if (type[0] === 'object') type = Object.hasOwn(type[1], step) ? type[1][step] : undefined;
    else if (type[0] === 'tuple') type = type[1][Number(step)];
    else type = type[1];
  }
  return type;
}

/** Returns a path in the notation of references: `networks[0].mac`, `labels.team`, `labels["example.net/team"]`. */
export function pathText(path: AttributePath): string {
  return path
    .map((step, index) => {
      if (typeof step === 'number') return `[${step}]`;
      if (index === 0) return step;
      return /^[A-Za-z_][\w-]*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
    })
    .join('');
}

/**
 * Returns the path as Terraform's message. The type tells if a step is the name of an attribute or the key of a map. The
 * path ends where the type has no such step: at a set, whose elements have no address, and at an unknown name.
 */
export function pathMessage(attributes: Attributes, path: AttributePath): Encodable<typeof AttributePathMessage> {
  const steps: { attribute_name?: string; element_key_string?: string; element_key_int?: number }[] = [];
  let type: Type | undefined = objectType(attributes);
  for (const step of path) {
    if (type === undefined || typeof type === 'string' || type[0] === 'set') break;
    if (type[0] === 'object') {
      const name = String(step);
      if (!Object.hasOwn(type[1], name)) break;
      steps.push({ attribute_name: name });
      type = type[1][name];
    } else if (type[0] === 'map') {
      steps.push({ element_key_string: String(step) });
      type = type[1];
    } else {
      const index = typeof step === 'number' ? step : Number(step);
      if (!Number.isSafeInteger(index) || index < 0) break;
      steps.push({ element_key_int: index });
      type = type[0] === 'list' ? type[1] : type[1][index];
    }
  }
  return { steps };
}

/**
 * Returns the part of a path for which Terraform finds the line in the configuration: an attribute, or an element of one.
 * Terraform does not look into objects, and shows the first line of the block for a longer path.
 */
export function locatable(attributes: Attributes, path: AttributePath): AttributePath {
  const type = typeAt(attributes, path.slice(0, 1));
  const element = typeof path[1] === 'number' || (Array.isArray(type) && type[0] === 'map');
  return path.slice(0, element ? 2 : 1);
}
