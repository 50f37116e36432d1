/**
 * A volume. Additions to the derived resource: a plan refuses a smaller size and another pool, because both would lose the
 * data.
 */
import { deriveResource } from '../derive/resource.ts';
import { refuseToShrink } from '../derive/shrink.ts';
import { schemaOf } from '../schema/resources.gen.ts';

const advice = 'create another volume and copy the data.';

export const volume = deriveResource(schemaOf('volume'), {
  timeouts: { delete: '20m' },
  async modifyPlan(ctx) {
    refuseToShrink(ctx, 'size', 'volume', ['project'], `For a smaller volume, ${advice}`);
    const { prior, planned, changed, diagnostics } = ctx;
    if (!prior || typeof planned.pool !== 'string' || !changed('pool') || changed('project')) return;
    diagnostics.error(
      'A volume stays in its storage pool',
      `\`pool\` is ${String(prior.pool)}, and cannot become ${String(planned.pool)}. For the data in another pool, ${advice}`,
      ['pool'],
    );
  },
});
