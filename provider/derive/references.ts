/** References from one object to others, such as from a VM to its networks. */
import type { AttributePath } from '../framework/index.ts';
import { type Noun, schemaOf } from '../schema/resources.gen.ts';
import type { PlanContext } from './contexts.ts';
import { type Field, type Fields, isSet } from './fields.ts';
import { nounWords } from './nouns.ts';

interface Reference {
  readonly noun: string;
  readonly id: string;
  /** An element of a set has no path of its own. */
  readonly path: AttributePath;
}

function referencesIn(field: Field, value: unknown, path: AttributePath): Reference[] {
  if (typeof value === 'string')
    return field.reference && !field.foreign ? [{ noun: field.reference, id: value, path }] : [];
  if (Array.isArray(value)) {
    const { fields, items } = field;
    return value.flatMap((element: unknown, index) => {
      if (fields) return referencesOf(fields, element, [...path, index]);
      return items ? referencesIn(items, element, isSet(field) ? path : [...path, index]) : [];
    });
  }
  return field.fields ? referencesOf(field.fields, value, path) : [];
}

/** Returns the known references that a user can set, and that a plan can check. */
export function referencesOf(fields: Fields, values: unknown, path: AttributePath = []): Reference[] {
  if (typeof values !== 'object' || values === null) return [];
  return Object.entries(fields).flatMap(([name, field]) =>
    field.create ? referencesIn(field, (values as Readonly<Record<string, unknown>>)[name], [...path, name]) : [],
  );
}

/**
 * Checks that new references exist. An object that this plan creates has no id yet, and an object that it deletes still
 * exists. So neither is reported: Terraform orders these by itself.
 */
export async function checkReferences(fields: Fields, ctx: PlanContext): Promise<void> {
  const { session, planned, prior, diagnostics, signal } = ctx;
  if (!session) return;
  const known = new Set(referencesOf(fields, prior).map(({ id }) => id));
  const added = referencesOf(fields, planned).filter(({ id }) => !known.has(id));
  const found = await Promise.all(added.map(({ noun, id }) => session.find(schemaOf(noun as Noun).path, id, signal)));
  for (const [index, { noun, id, path }] of added.entries()) {
    if (found[index]) continue;
    diagnostics.error(
      `There is no ${nounWords(noun)} ${id}`,
      'It does not exist, or the token of the provider may not see it.',
      path,
    );
  }
}
