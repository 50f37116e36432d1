/**
 * What constructs check while the app runs. Terraform would find the same later, and name a resource of the synthesized
 * JSON; here the error names the construct, and its stack trace the line of the app.
 *
 * A token stands for a value that only Terraform will know. It passes where it is only handed on, and is refused where the
 * app itself has to count, or to give names to constructs.
 */
import { Token } from 'cdktf';
import type { Construct } from 'constructs';
import { namePattern, nameRule } from './bindings/rules/index.ts';

/** @throws Error that begins with the path of the construct */
export function fail(construct: Construct, problem: string, cause?: unknown): never {
  throw new Error(`${construct.node.path}: ${problem}`, { cause });
}

/** A name that the API will take, as far as it is known. @throws Error that names the construct and the rule */
export function checkedName(construct: Construct, name: string, what = 'name'): string {
  if (Token.isUnresolved(name) || namePattern.test(name)) return name;
  return fail(construct, `${what} must be ${nameRule}, not "${name}"`);
}

/** Refuses a token. @throws Error that names the construct and the field */
export function mustBeKnown(construct: Construct, what: string, value: unknown): void {
  if (Token.isUnresolved(value)) fail(construct, `${what} must be known while the app runs, not only to Terraform`);
}
