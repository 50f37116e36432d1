/** Checks a configuration against its attributes. Definitions check their rules for several attributes themselves. */
import { isList, isObject } from '../protocol/types.ts';
import { isNull, UNKNOWN, type Value, type Values } from '../protocol/values.ts';
import type { Attribute, Attributes } from './attributes.ts';
import type { AttributePath, Diagnostics } from './diagnostics.ts';
import { pathText } from './paths.ts';
import { isConfigurable } from './schema.ts';

export interface ValidateOptions {
  /** True if the calling Terraform supports write-only attributes, which is 1.11 or later. */
  writeOnlyAllowed: boolean;
}

export function validateObject(
  attributes: Attributes,
  config: Values,
  diagnostics: Diagnostics,
  options: ValidateOptions,
  path: AttributePath = [],
): void {
  for (const [name, attr] of Object.entries(attributes)) {
    validateAttribute(attr, config[name] ?? null, diagnostics, options, [...path, name]);
  }
}

function validateAttribute(
  attr: Attribute,
  value: Value,
  diagnostics: Diagnostics,
  options: ValidateOptions,
  path: AttributePath,
): void {
  const name = pathText(path);
  if (isNull(value)) {
    if (attr.required) diagnostics.error('Missing value', `The attribute "${name}" is required.`, path);
    return;
  }
  if (!isConfigurable(attr)) {
    diagnostics.error(
      'Read-only attribute',
      `The provider sets the attribute "${name}". Remove it from the configuration.`,
      path,
    );
    return;
  }
  if (attr.writeOnly && !options.writeOnlyAllowed) {
    diagnostics.error(
      'Write-only attribute not supported',
      `The attribute "${name}" is write-only, which requires Terraform 1.11 or later.`,
      path,
    );
  }
  if (attr.deprecated !== undefined) diagnostics.warning('Deprecated attribute', attr.deprecated, path);
  if (value === UNKNOWN) return;
  const wrong = attr.validate?.(value) ?? [];
  for (const flaw of typeof wrong === 'string' ? [{ path: [], problem: wrong }] : wrong) {
    const at = [...path, ...flaw.path];
    diagnostics.error(`Invalid value for "${pathText(at)}"`, flaw.problem, at);
  }
  if (attr.kind === 'plain') return;
  const element = (object: Value, at: AttributePath) => {
    if (isObject(object)) validateObject(attr.attributes, object, diagnostics, options, at);
    else if (object === null) diagnostics.error('Missing value', `An element of "${name}" is null.`, at);
  };
  if (attr.nesting === 'single') element(value, path);
  else if (isList(value)) value.forEach((object, index) => void element(object, [...path, index]));
  else if (isObject(value)) for (const [key, object] of Object.entries(value)) element(object, [...path, key]);
}
