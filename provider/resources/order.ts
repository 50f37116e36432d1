/** A booking. Addition to the derived resource: a plan warns that a replaced booking stays charged. */
import { deriveResource } from '../derive/resource.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const order = deriveResource(schemaOf('order'), {
  async modifyPlan({ action, changed, diagnostics }) {
    if (action !== 'update' || !['product', 'quantity', 'project'].some((name) => changed(name))) return;
    const detail =
      'Terraform ends the old booking and makes a new one. What the old one has cost stays on the bill. If it was wrong, take it back before the apply: `ucloud order cancel`.';
    diagnostics.warning('The old booking stays charged', detail);
  },
});
