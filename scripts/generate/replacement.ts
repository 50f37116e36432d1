/** provider/docs/guides/replacement.md: what replaces each resource, and what happens to the resources that refer to it. */
import type { Field } from '../../provider/derive/fields.ts';
import { creatable, type Noun, schemaOf } from '../../provider/schema/resources.gen.ts';
import type { GeneratedFile } from './step.ts';

/** The nouns that a field, or one inside it, refers to. */
function referred(field: Field): string[] {
  const inner = [...Object.values(field.fields ?? {}), ...(field.items ? [field.items] : [])];
  return [...(field.reference ? [field.reference] : []), ...inner.flatMap(referred)];
}

const type = (noun: string) => `\`ucloud_${noun}\``;
const list = (parts: readonly string[]) => (parts.length === 0 ? '–' : parts.join(', '));
const code = (name: string) => `\`${name}\``;

function row(noun: Noun): string {
  const { fields } = schemaOf(noun);
  const configurable = Object.entries(fields).filter(([, { create }]) => create);
  const fixed = configurable.filter(([, { update }]) => !update).map(([name]) => code(name));
  const users = (inPlace: boolean) =>
    creatable.flatMap((user) =>
      Object.entries(schemaOf(user).fields)
        .filter(([, field]) => field.create && Boolean(field.update) === inPlace && referred(field).includes(noun))
        .map(([name]) => `${code(name)} of ${type(user)}`),
    );
  return `| ${[type(noun), list(fixed), list(users(false)), list(users(true))].join(' | ')} |`;
}

export function replacement(path: string, frontMatter: string): GeneratedFile {
  const content = `${frontMatter}
# What a replacement takes along

Most attributes change in place. The attributes of the second column cannot: a change of one makes Terraform destroy the
object and create another, with another id. The third column has the attributes that hold that id and cannot change either:
Terraform replaces those objects in the same apply, dependants first. So one apply is enough. The last column has the
attributes that hold the id and change in place.

| resource | is replaced by a change of | replaced with it | changed with it in place |
| --- | --- | --- | --- |
${creatable.map(row).join('\n')}

This holds where the configuration refers to the object (\`ucloud_network.web.id\`). Where it holds the id as text, or another
configuration uses the object, ucloud refuses to delete what is in use: the apply ends with "something still uses this", names
the users, and has changed nothing of the object.

## Keys

Another \`public_key\` is a change in place: the key keeps its name and its id, and no VM is replaced. ucloud-init in a running
guest lets the new key in, and shuts the old one out, within half a minute. Only another \`project\` replaces a key. The VMs of
the old project cannot keep it then: give them another key, or move them to the project, which replaces them.

## With create_before_destroy

The new object exists before the old one is gone. Names are unique in a project, so let the name change with what replaces the
object. That works for every resource, with these limits:

- A prefix pool, a prefix or a network with a \`cidr\` of your choice: the space is taken while the old one exists. Leave
  \`cidr\` out, or choose space that does not overlap.
- A VM with a \`mac\` of your choice: the address is taken while the old one exists.
- A token: the old secret works until its token is destroyed, at the end of the apply. That is how to change a token without
  a gap.
`;
  return { path, content, checkedIn: true };
}
