/** Replacing an object must not wait for the change of another: an id that is held in place must not go away. */
import t from 'tap';
import type { Field } from '../../provider/derive/fields.ts';
import { creatable, type Noun, schemaOf } from '../../provider/schema/resources.gen.ts';

function referred(field: Field): string[] {
  const inner = [...Object.values(field.fields ?? {}), ...(field.items ? [field.items] : [])];
  return [...(field.reference ? [field.reference] : []), ...inner.flatMap(referred)];
}

t.test('an object that others refer to in place is replaced only by another project', async (t) => {
  // The references of an image (`replaced_by`, `shared_with`) and of a prefix route prevent no deletion.
  const holding = creatable.filter((noun) => noun !== 'image' && noun !== 'prefix_route');
  const inPlace = holding.flatMap((noun) =>
    Object.values(schemaOf(noun).fields).flatMap((field) => (field.create && field.update ? referred(field) : [])),
  );
  t.ok(inPlace.includes('ssh_key'), 'a VM keeps its keys while they change');
  for (const noun of inPlace) {
    const { fields } = schemaOf(noun as Noun);
    const fixed = Object.keys(fields).filter((name) => fields[name]?.create && !fields[name]?.update);
    // The pool and the first data of a volume cannot be exchanged. A replacement is a decision about data.
    const data = noun === 'volume' ? ['pool', 'image', 'snapshot', 'snapshot_disk', 'source_volume'] : [];
    // A VM is replaced together with a network of its interfaces (provider/resources/vm-interfaces.ts).
    const withVm = noun === 'network' ? ['prefix', 'cidr', 'kind', 'mtu'] : [];
    // A project keeps its account, whose currency and company are those of its bills.
    const own = noun === 'billing_account' ? ['currency', 'legal_entity'] : ['project', ...data, ...withVm];
    t.strictSame(fixed, own, noun);
  }
});
