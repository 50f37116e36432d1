/**
 * Delete protection in plans. The API refuses the deletion of a protected object, but only after an apply has deleted other
 * objects. So the plan fails first.
 */
import type { AttributePath, Diagnostics } from '../framework/index.ts';
import { nounInSentence } from './nouns.ts';

interface ProtectedObject {
  readonly noun: string;
  readonly name: unknown;
  readonly diagnostics: Diagnostics;
}

const path: AttributePath = ['delete_protection'];

const called = ({ noun, name }: ProtectedObject): string =>
  `${nounInSentence(noun)}${typeof name === 'string' ? ` "${name}"` : ''}`;

/** Adds the error for a protected object that the plan destroys. */
export function refuseDestroy(object: ProtectedObject): void {
  object.diagnostics.error(
    `${called(object)} is protected from deletion`,
    '`delete_protection` is true. To destroy the object: set `delete_protection = false`, apply, then destroy.',
    path,
  );
}

/**
 * Adds the error for a protected object that the plan replaces. A configuration that switches the protection off is no
 * help: the old object still has it. If the replacement is not certain, the error becomes a warning.
 */
export function refuseReplacement(object: ProtectedObject, certain = true): void {
  object.diagnostics[certain ? 'error' : 'warning'](
    `${called(object)} is protected from deletion, and cannot be replaced`,
    'A replacement begins with the deletion of the old object. To replace it: set `delete_protection = false` and change nothing else, apply, then plan the change.',
    path,
  );
}
