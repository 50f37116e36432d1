/**
 * Checks of constructs while the app runs. Terraform would report the same errors later, for a resource of the
 * synthesized JSON. Here the error names the construct, and its stack trace names the line of the app.
 *
 * A token is a placeholder for a value that only Terraform knows. Constructs accept a token where they only pass it on.
 * They reject it where the app must count, or must derive names from it.
 */
import { Token } from 'cdktf';
import type { Construct } from 'constructs';
import { namePattern, nameRule } from './bindings/rules/index.ts';

/**
 * Throws an error of a construct.
 * @throws Error whose message begins with the path of the construct
 */
export function fail(construct: Construct, problem: string, cause?: unknown): never {
  throw new Error(`${construct.node.path}: ${problem}`, { cause });
}

/**
 * Checks a name against the API's rule and returns it. A token passes unchecked.
 * @throws Error that names the construct and the rule
 */
export function validateName(construct: Construct, name: string, what = 'name'): string {
  if (Token.isUnresolved(name) || namePattern.test(name)) return name;
  return fail(construct, `${what} must be ${nameRule}, not "${name}"`);
}

/**
 * Rejects a token.
 * @throws Error that names the construct and the field
 */
export function requireKnown(construct: Construct, what: string, value: unknown): void {
  if (Token.isUnresolved(value)) fail(construct, `${what} must be known while the app runs, not only to Terraform`);
}
