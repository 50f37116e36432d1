/**
 * A volume. Additions to the derived resource: a plan refuses a smaller size and another pool, and keeps the source of the
 * first content, because a change of them would lose the data. An apply waits until a copy has its data.
 */
import type { Item } from '../client/item.ts';
import type { PlanContext } from '../derive/contexts.ts';
import { deriveResource } from '../derive/resource.ts';
import { refuseToShrink } from '../derive/shrink.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Status = components['schemas']['Volume']['status'];
const statusOf = (item: Item): Status => item.status as Status;
const { path } = schemaOf('volume');

const advice = 'create another volume and copy the data.';

/** The fields that decide only the first content of a volume. */
const sources = ['image', 'snapshot', 'snapshot_disk', 'source_volume'];

/** Another source, such as a newer image of a family, would replace the volume and lose its data. */
function keepSource({ prior, planned, config, changed, diagnostics }: PlanContext): void {
  if (prior === null || changed('project')) return;
  for (const name of sources) {
    if (!changed(name)) continue;
    const before = prior[name] ?? null;
    // Terraform accepts the earlier value only in place of another one.
    if (before === null || (config[name] ?? null) === null) {
      diagnostics.error(
        'A volume keeps its content',
        `\`${name}\` decides only the first content, and a volume has it from its creation on. ${before === null ? `Remove \`${name}\`` : `Set \`${name}\` to ${String(before)} again`}, or replace the volume (\`-replace\`), which deletes its data.`,
        [name],
      );
      continue;
    }
    Object.assign(planned, { [name]: before });
    diagnostics.warning(
      'A volume keeps its content',
      `\`${name}\` of volume "${String(prior.name)}" has changed, but decides only the first content. The volume stays as it is. For other content, replace the volume (\`-replace\`), which deletes its data.`,
      [name],
    );
  }
}

export const volume = deriveResource(schemaOf('volume'), {
  timeouts: { create: '60m', delete: '20m' },
  async waitForState(item, ctx) {
    // All other volumes, also those with an image, get their content with their first VM.
    if (!ctx.created || (item.source_volume ?? item.snapshot ?? null) === null) return item;
    return waitFor(ctx, path, item, {
      what: `Volume "${String(item.name)}" has no data`,
      reached: (now) => !['restoring', 'error'].includes(statusOf(now).phase),
      failed: (now) =>
        statusOf(now).phase === 'error' ? (statusOf(now).message ?? 'The source could not be copied.') : undefined,
      state: (now) => {
        const { phase, message } = statusOf(now);
        return `The volume is ${phase}${message ? `: ${message}` : '.'}`;
      },
    });
  },
  async modifyPlan(ctx) {
    keepSource(ctx);
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
