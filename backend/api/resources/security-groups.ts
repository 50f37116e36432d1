/**
 * Security groups. The API checks the rules. The scheduler tells hosts which interfaces have which groups
 * (network-members/), and hosts filter the packets.
 */
import type { FieldError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import {
  type SecurityGroupBody,
  type SecurityGroupUpdate,
  type SecurityRule,
  securityGroup,
} from '../../contract/resources/security-groups.ts';
import { newId } from '../../model/ids.ts';
import { formatPrefix, parsePrefix } from '../../model/network/prefixes.ts';
import { ruleProblems, selectorProblem } from '../../model/network/security-groups.ts';
import * as records from '../../model/records/index.ts';
import type { Write } from '../../store/store.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { invalidInput } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  addReference,
  creation,
  patched,
  projectOfCreation,
  removal,
  removeReference,
  replacement,
} from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

/** The descriptor of security groups. */
export const securityGroups: ResourceDescriptor<records.SecurityGroupRecord> = describe(securityGroup, {
  kind: records.securityGroups,
  scope: 'project',
  show: (_api, record) => record,
  quota: () => ({ security_groups: 1 }),
  handlers: {
    security_group_create: createGroup,
    security_group_update: updateGroup,
    security_group_delete: deleteGroup,
  },
});

/** A reference to a group, at the place of the request that names it. */
interface NamedGroup {
  readonly group: Id<'security_group'>;
  readonly pointer: string;
}

/** Returns the references that a user of groups does not have yet, and the removals of those that it has no longer. */
export function useGroups(
  api: ApiContext,
  project: Id<'project'>,
  user: string,
  named: readonly NamedGroup[],
  held: ReadonlySet<string> = new Set(),
): { readonly guards: Guard[]; readonly writes: Write[] } {
  const guards: Guard[] = [];
  const writes: Write[] = [];
  const wanted = new Map(named.map(({ group, pointer }) => [group, pointer]));
  for (const [id, pointer] of wanted) {
    if (held.has(id)) continue;
    const reference = addReference(api, securityGroups, { project, id, pointer, user });
    guards.push(...reference.guards);
    writes.push(...reference.writes);
  }
  for (const id of held) if (!wanted.has(id as Id<'security_group'>)) writes.push(removeReference(id, user));
  return { guards, writes };
}

/** The other groups that the rules of a group name. */
const namedBy = ({ id, rules }: Pick<records.SecurityGroupRecord, 'id' | 'rules'>): NamedGroup[] =>
  rules.flatMap(({ security_group: group }, index) =>
    group === undefined || group === id ? [] : [{ group, pointer: `/rules/${index}/security_group` }],
  );

/** Returns the rule with its prefixes in their normal spelling, or the errors of the prefixes. */
function normalRule(rule: SecurityRule, index: number): { rule: SecurityRule; errors: FieldError[] } {
  const errors: FieldError[] = [];
  const prefixes = rule.prefixes?.map((text, at) => {
    const parsed = parsePrefix(text);
    if (parsed.ok) return formatPrefix(parsed.value);
    errors.push({ pointer: `/rules/${index}/prefixes/${at}`, detail: parsed.problem });
    return text;
  });
  return { rule: { ...rule, ...(prefixes && { prefixes }) }, errors };
}

/** Returns the record with its rules in their normal spelling. @throws UcloudError `invalid_input` */
function checked(record: records.SecurityGroupRecord): records.SecurityGroupRecord {
  const { rules, vm_selector, default_egress } = record;
  const normal = rules.map(normalRule);
  const selector = vm_selector === undefined ? undefined : selectorProblem(vm_selector);
  const errors: FieldError[] = [
    ...normal.flatMap(({ errors }) => errors),
    ...ruleProblems(rules, default_egress).map(({ pointer, rule }) => ({ pointer, detail: rule })),
    ...(selector === undefined ? [] : [{ pointer: '/vm_selector', detail: selector }]),
  ];
  if (errors.length > 0) throw invalidInput(errors);
  return { ...record, rules: normal.map(({ rule }) => rule) };
}

async function createGroup(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked, ...body } = request.body as SecurityGroupBody;
  const id = newId('security_group');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const project = projectOfCreation(api, request.caller, asked);
    const record = checked({ id, project, ...body, created_at: at, updated_at: at });
    return creation(api, securityGroups, record, useGroups(api, project, id, namedBy(record)));
  });
}

async function updateGroup(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const update = request.body as SecurityGroupUpdate;
  return changeObject(api, request, securityGroups, (stored) => {
    const changed: records.SecurityGroupRecord = patched(securityGroup, stored.value, update);
    const next = checked({ ...changed, updated_at: request.now.toISOString() });
    const held = new Set(namedBy(stored.value).map(({ group }) => group));
    const uses = useGroups(api, next.project, next.id, namedBy(next), held);
    return replacement(api, request, securityGroups, stored, next, uses);
  });
}

async function deleteGroup(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, securityGroups, (stored) => {
    const named = new Set(namedBy(stored.value).map(({ group }) => group));
    const writes = [...named].map((group) => removeReference(group, stored.id));
    return removal(api, request, securityGroups, stored, { writes });
  });
}
