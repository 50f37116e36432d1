/**
 * Label selectors in the syntax of Kubernetes: `env=prod,tier!=db,app in (a,b),zone notin (x),legacy,!old`. An object
 * matches if all requirements hold. As in Kubernetes, `!=` and `notin` also hold for objects without the label.
 */
export type Requirement =
  | { readonly key: string; readonly operator: 'in' | 'notin'; readonly values: ReadonlySet<string> }
  | { readonly key: string; readonly operator: 'exists' | 'absent' };

/** A parsed selector: all requirements must hold. */
export type Selector = readonly Requirement[];

const keyPattern = '(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?';
const valuePattern = '(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?';
const exists = new RegExp(`^(!?)\\s*(${keyPattern})$`);
const equality = new RegExp(`^(${keyPattern})\\s*(==|=|!=)\\s*(${valuePattern})$`);
const set = new RegExp(`^(${keyPattern})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);
const value = new RegExp(`^${valuePattern}$`);

/** Splits the text at the commas outside parentheses. */
function splitRequirements(text: string): string[] {
  const parts: string[] = [''];
  let depth = 0;
  for (const character of text) {
    if (character === '(') depth++;
    if (character === ')') depth--;
    if (character === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim());
}

/** The maximum number of requirements. A selector is compared with many objects, so its work is bounded. */
const maxRequirements = 16;

/** Parses a selector. Returns a message that names the invalid part if the text is not a selector. */
export function parseSelector(text: string): Selector | string {
  const selector: Requirement[] = [];
  const parts = splitRequirements(text);
  if (parts.length > maxRequirements) return `it has ${parts.length} requirements, more than ${maxRequirements}`;
  for (const part of parts) {
    const byExistence = exists.exec(part);
    const byEquality = equality.exec(part);
    const bySet = set.exec(part);
    if (byExistence?.[2]) {
      selector.push({ key: byExistence[2], operator: byExistence[1] === '!' ? 'absent' : 'exists' });
    } else if (byEquality?.[1]) {
      const operator = byEquality[2] === '!=' ? 'notin' : 'in';
      selector.push({ key: byEquality[1], operator, values: new Set([byEquality[3] ?? '']) });
    } else if (bySet?.[1] && bySet[3] !== undefined) {
      const values = bySet[3].split(',').map((item) => item.trim());
      const wrong = values.find((item) => !value.test(item));
      if (wrong !== undefined) return `${JSON.stringify(wrong)} in ${JSON.stringify(part)} is not a label value`;
      selector.push({ key: bySet[1], operator: bySet[2] === 'in' ? 'in' : 'notin', values: new Set(values) });
    } else {
      return `${JSON.stringify(part)} is not a requirement such as env=prod, tier!=db, app in (a,b), legacy or !old`;
    }
  }
  return selector;
}

function formatRequirement(requirement: Requirement): string {
  if (!('values' in requirement)) return requirement.operator === 'exists' ? requirement.key : `!${requirement.key}`;
  const { key, operator } = requirement;
  const values = [...requirement.values].sort();
  if (values.length === 1) return `${key}${operator === 'in' ? '=' : '!='}${values[0]}`;
  return `${key} ${operator} (${values.join(',')})`;
}

/**
 * Returns the normal spelling of a selector: selectors with equal requirements have equal ones. Returns undefined if the
 * text is not a selector.
 */
export function normalSelector(text: string): string | undefined {
  const selector = parseSelector(text);
  if (typeof selector === 'string') return undefined;
  return [...new Set(selector.map(formatRequirement))].sort().join(',');
}

function requirementMatches(requirement: Requirement, label: string | undefined): boolean {
  switch (requirement.operator) {
    case 'exists':
      return label !== undefined;
    case 'absent':
      return label === undefined;
    case 'in':
      return label !== undefined && requirement.values.has(label);
    case 'notin':
      return label === undefined || !requirement.values.has(label);
  }
}

/** Tells whether the labels fulfil all requirements of the selector. */
export const matches = (selector: Selector, labels: Readonly<Record<string, string>>): boolean =>
  selector.every((requirement) =>
    requirementMatches(requirement, Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined),
  );
