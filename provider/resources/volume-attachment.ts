/**
 * An attachment. Additions to the derived resource: an apply waits until the guest has the volume, and a destroy can stop
 * the VM meanwhile.
 */
import { type Item, isBeingDeleted } from '../client/item.ts';
import { isNotFound } from '../client/problem.ts';
import type { DeleteContext } from '../derive/contexts.ts';
import { deriveResource } from '../derive/resource.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import { attribute } from '../framework/index.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Status = components['schemas']['VolumeAttachment']['status'];
const statusOf = (item: Item): Status => item.status as Status;
const { path } = schemaOf('volume_attachment');
const vmPath = schemaOf('vm').path;

/** The maximum time of the request that starts the VM again, in milliseconds. */
const restartMs = 30_000;

/** Stops the VM if it runs, detaches the volume, and starts the VM again. */
async function detachFromStoppedVm(
  { client, state, signal }: DeleteContext,
  remove: () => Promise<void>,
): Promise<void> {
  const vm = await client.read(vmPath, String(state.vm), signal);
  if (vm === undefined || vm.power_state !== 'running' || isBeingDeleted(vm)) return remove();
  const stopping = await client.update(vmPath, vm.id, { power_state: 'stopped' }, signal);
  const stopped = (now: Item | undefined) =>
    now === undefined || (now.status as { readonly phase: string }).phase === 'stopped';
  try {
    await client.wait(vmPath, stopping, stopped, signal);
    await remove();
  } finally {
    // Ctrl-C or a time limit must not leave the VM stopped.
    const restart = AbortSignal.timeout(restartMs);
    await client.update(vmPath, vm.id, { power_state: 'running' }, restart).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
  }
}

export const volumeAttachment = deriveResource(schemaOf('volume_attachment'), {
  timeouts: { create: '10m', delete: '10m' },
  attributes: {
    stop_vm_before_detaching: attribute.bool({
      description:
        'Whether a destroy of this attachment stops the VM first, and starts it again after the volume is detached. Without it, a running guest keeps the volume while its QEMU guest agent says that it uses the volume. The API refuses to detach a volume from a running VM without guest agent, unless the volume has `force_detach`.',
      default: false,
      optional: true,
      computed: true,
    }),
  },
  imported: { stop_vm_before_detaching: false },
  delete: (ctx, remove) => (ctx.state.stop_vm_before_detaching ? detachFromStoppedVm(ctx, remove) : remove()),
  waitForState: (item, ctx) =>
    waitFor(ctx, path, item, {
      what: `Volume ${String(item.volume)} is not attached`,
      reached: (now) => ['attached', 'ready'].includes(statusOf(now).phase),
      // A volume that waits for space may get it.
      failed: (now) => (statusOf(now).reason === 'other_host' ? statusOf(now).message : undefined),
      state: (now) => {
        const { phase, message } = statusOf(now);
        return `The attachment is ${phase}${message ? `: ${message}` : '.'}`;
      },
    }),
});
