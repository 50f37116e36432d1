/** A volume. Addition to the derived resource: a plan refuses a smaller size. */
import { deriveResource } from '../derive/resource.ts';
import { refuseToShrink } from '../derive/shrink.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const volume = deriveResource(schemaOf('volume'), {
  timeouts: { delete: '20m' },
  async modifyPlan(ctx) {
    const advice = 'For a smaller volume, create another one and copy the data.';
    refuseToShrink(ctx, 'size', 'volume', ['project'], advice);
  },
});
