/** Objects that must not be deleted, told while planning: an apply would delete half of what it should, and then fail. */
import type { AttributePath, Diagnostics } from '../framework/index.ts';
import { nounInSentence } from './nouns.ts';

interface Told {
  readonly noun: string;
  readonly name: unknown;
  readonly diagnostics: Diagnostics;
}

const path: AttributePath = ['delete_protection'];

const called = ({ noun, name }: Told): string =>
  `${nounInSentence(noun)}${typeof name === 'string' ? ` "${name}"` : ''}`;

/** Tells whether `delete_protection` is on, in the state, for an object that the plan destroys. */
export function refuseDestroy(told: Told): void {
  told.diagnostics.error(
    `${called(told)} is protected from deletion`,
    'Nothing is destroyed while `delete_protection` is true. To destroy it: set `delete_protection = false`, apply, then destroy.',
    path,
  );
}

/**
 * The same of what is to be replaced. That the configuration switches it off comes too late: the old one has it still.
 * Where it is not sure to be replaced, it is a warning.
 */
export function refuseReplacement(told: Told, certain = true): void {
  told.diagnostics[certain ? 'error' : 'warning'](
    `${called(told)} is protected from deletion, and cannot be replaced`,
    'A replacement begins with the deletion of the old one. To replace it: set `delete_protection = false` and nothing else, apply, then plan the change.',
    path,
  );
}
