/** A price. Addition to the derived resource: a plan warns of the time without a price during a replacement. */
import { deriveResource } from '../derive/resource.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const price = deriveResource(schemaOf('price'), {
  async modifyPlan({ action, changed, prior, diagnostics }) {
    const replaced = ['product', 'currency', 'amount', 'per', 'minimum_seconds', 'monthly_cap'].some((name) =>
      changed(name),
    );
    if (action !== 'update' || !replaced || Date.parse(String(prior?.valid_from)) > Date.now()) return;
    const detail =
      'The old price ends with its deletion. If Terraform deletes it before it creates the new one, the product is free in between. Set `lifecycle { create_before_destroy = true }`, or add a second `ucloud_price` with a later `valid_from`.';
    diagnostics.warning('The product may have no price during the apply', detail);
  },
});
