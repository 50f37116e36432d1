/**
 * The image of a VM. `image_change` selects the effect of a change, such as a newer image of a family:
 *
 *   replace   Terraform replaces the VM
 *   ignore    the VM keeps its image. VMs that are created later get the configured one
 */
import type { Item } from '../client/item.ts';
import type { PlanContext } from '../derive/contexts.ts';
import { schemaOf } from '../schema/resources.gen.ts';

const { path } = schemaOf('image');

/** The values of `image_change`. */
export const imageChanges = ['replace', 'ignore'] as const;

const called = ({ id, name }: Item): string => `"${String(name)}" (${id})`;

/** Returns the time from which the image is deprecated; undefined if it is not deprecated yet. */
const deprecation = ({ deprecated_at }: Item): string | undefined =>
  typeof deprecated_at === 'string' && Date.parse(deprecated_at) <= Date.now() ? deprecated_at : undefined;

/** Plans the image of a VM, and warns if a newer image of a family replaces the VM. */
export async function planImage(ctx: PlanContext): Promise<void> {
  const { planned, prior } = ctx;
  if (prior === null || !ctx.changed('image')) return;
  if (planned.image_change === 'ignore') Object.assign(planned, { image: prior.image });
  else await warnOfNewerImage(ctx, prior.image);
}

async function find({ session, signal }: PlanContext, id: unknown): Promise<Item | undefined> {
  return typeof id === 'string' ? session?.find(path, id, signal) : undefined;
}

/** Warns of the deprecated image of a new VM. The new VM of a replacement has the configured image. */
export async function warnOfDeprecation(ctx: PlanContext): Promise<void> {
  const image = await find(ctx, ctx.config.image);
  if (!image) return;
  const since = deprecation(image);
  if (since === undefined) return;
  // The warning names one replacement, however many follow it.
  const other = await find(ctx, image.replaced_by);
  const advice = other ? `Use ${called(other)} instead.` : 'Use another image.';
  ctx.diagnostics.warning(
    `Image "${String(image.name)}" is deprecated`,
    `Image ${called(image)} is deprecated since ${since}. It still starts new VMs, but may be deleted. ${advice}`,
    ['image'],
  );
}

async function warnOfNewerImage(ctx: PlanContext, before: unknown): Promise<void> {
  const [old, next] = await Promise.all([find(ctx, before), find(ctx, ctx.planned.image)]);
  if (!old || !next || typeof old.family !== 'string' || old.family !== next.family) return;
  ctx.diagnostics.warning(
    `Another image of the family "${old.family}" replaces VMs`,
    `VM "${String(ctx.prior?.name)}" has the image ${called(old)}, and the configuration now selects ${called(next)}. Apply destroys the VM with its disk, and creates another. To keep existing VMs, set \`image_change = "ignore"\`.`,
    ['image'],
  );
}
