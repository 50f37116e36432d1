/** Generates provider/docs/guides/replacement.md: the changes that replace a resource, and their effects on others. */
import type { Field } from '../../provider/derive/fields.ts';
import { creatable, type Noun, schemaOf } from '../../provider/schema/resources.gen.ts';
import type { GeneratedFile } from './step.ts';

/** Returns the nouns to which a field, or a field inside it, refers. */
function referred(field: Field): string[] {
  const inner = [...Object.values(field.fields ?? {}), ...(field.items ? [field.items] : [])];
  return [...(field.reference ? [field.reference] : []), ...inner.flatMap(referred)];
}

const type = (noun: string) => `\`ucloud_${noun}\``;
const list = (parts: readonly string[]) => (parts.length === 0 ? '–' : parts.join(', '));
const code = (name: string) => `\`${name}\``;

/** Attributes whose change replaces nothing: the provider keeps or refuses it, so that no data is lost (resources/volume.ts). */
const kept: Partial<Record<Noun, readonly string[]>> = { volume: ['pool', 'image', 'snapshot', 'snapshot_disk'] };

function row(noun: Noun): string {
  const { fields } = schemaOf(noun);
  const configurable = Object.entries(fields).filter(([, { create }]) => create);
  const isKept = (user: Noun, name: string) => kept[user]?.includes(name) ?? false;
  const fixed = configurable.filter(([name, { update }]) => !update && !isKept(noun, name)).map(([name]) => code(name));
  const users = (inPlace: boolean) =>
    creatable.flatMap((user) =>
      Object.entries(schemaOf(user).fields)
        .filter(
          ([name, field]) =>
            field.create && Boolean(field.update) === inPlace && !isKept(user, name) && referred(field).includes(noun),
        )
        .map(([name]) => `${code(name)} of ${type(user)}`),
    );
  return `| ${[type(noun), list(fixed), list(users(false)), list(users(true))].join(' | ')} |`;
}

/** Returns the page. */
export function replacement(path: string, frontMatter: string): GeneratedFile {
  const content = `${frontMatter}
# Effects of a replacement

Most attributes change in place. The attributes in the second column do not: for a change of one, Terraform destroys the
object and creates a new one, with another id. The third column contains the attributes that refer to that id and cannot
change in place either. Terraform replaces their objects in the same apply, so one apply is enough. The last column contains
the attributes that refer to the id and change in place.

| resource | a change of these replaces it | also replaced | changed in place |
| --- | --- | --- | --- |
${creatable.map(row).join('\n')}

A volume keeps its data. A plan refuses another \`pool\`. Another \`image\` or \`snapshot\`, such as a newer image of a family,
decides only the content of new volumes: the plan keeps the volume and warns.

This requires a reference to the object in the configuration (\`ucloud_network.web.id\`). If the configuration contains the id
as text, or another configuration uses the object, ucloud refuses the deletion. The apply then ends with "something still uses
this", names the users, and does not change the object.

## Keys

A new \`public_key\` is a change in place: the key keeps its name and its id, and Terraform replaces no VM. Within half a minute,
ucloud-init in a running guest accepts the new key and rejects the old one. Only a new \`project\` replaces a key. The VMs of the
old project cannot keep it: give them another key, or move them to the new project, which replaces them.

## With create_before_destroy

Terraform creates the new object before it destroys the old one. Names are unique in a project, so change the name together
with the cause of the replacement. This works for every resource, with these limits:

- A prefix pool, a prefix or a network with a configured \`cidr\`: the old object still has the addresses. Omit \`cidr\`, or
  choose a \`cidr\` that does not overlap.
- A VM with a configured \`mac\`: the old VM still has the address.
- A token: the old secret works until Terraform destroys the old token, at the end of the apply. So a token can change without
  a gap.
`;
  return { path, content, checkedIn: true };
}
