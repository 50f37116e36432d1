/**
 * A VM. Additions to the derived resource: a plan contains MAC addresses and IPv6 addresses, and an apply waits for the
 * requested state of the VM. The file vm-interfaces.ts plans the addresses. The file vm-user-data.ts has the rules for user data.
 */

import type { Item } from '../client/item.ts';
import type { PlanContext } from '../derive/contexts.ts';
import type { Field } from '../derive/fields.ts';
import { deriveResource } from '../derive/resource.ts';
import { problemWith } from '../derive/rules.ts';
import { refuseToShrink } from '../derive/shrink.ts';
import { normalUserData } from '../derive/user-data.ts';
import type { WaitContext } from '../derive/wait-context.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import { attribute, UNKNOWN, type ValidateContext, type Value, type Values } from '../framework/index.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import { imageChanges, planImage, warnOfDeprecation } from './vm-image.ts';
import { checkMacs, isObject, planInterfaces } from './vm-interfaces.ts';
import {
  changes,
  changeUserData,
  keepUserData,
  planUserData,
  restartForUserData,
  validateUserData,
  warnOfFailedUserData,
} from './vm-user-data.ts';

type Vm = components['schemas']['Vm'];
type Status = Vm['status'];

const statusOf = (item: Item): Status => item.status as Status;
const { path } = schemaOf('vm');

/** Returns the state of the VM as a sentence, with `reason` or `message`. */
function stateSentence({ phase, reason, message }: Status): string {
  if (phase === 'pending') return message ? `It has no host yet: ${message}` : 'It has no host yet.';
  return `It is ${phase}${message ? `: ${message}` : reason ? ` (${reason})` : ''}${message ? '' : '.'}`;
}

const userData: Field = schemaOf('vm').fields.user_data ?? { type: 'string', description: '' };

/** The fields whose change replaces the VM. The new VM has a new disk. */
const replacing = ['image', 'root_volume', 'project', 'anti_affinity', 'host_selector'];

/** The values of `wait_for`. */
const waitChoices = ['running', 'ready', 'none'];

async function modifyPlan(ctx: PlanContext): Promise<void> {
  planRootVolume(ctx);
  await Promise.all([planUserData(ctx), planImage(ctx)]);
  refuseToShrink(
    ctx,
    'disk_size',
    'disk',
    replacing,
    'For a smaller disk, create another VM, or replace this VM (`-replace`).',
  );
  await planInterfaces(ctx);
}

/** Another root volume has another image and size. Both are known after the apply. */
function planRootVolume({ prior, planned, config, changed }: PlanContext): void {
  if (prior === null) return;
  // The volume may grow in the same apply. The status is unknown only if the VM changes.
  const changes = planned.status === UNKNOWN && (planned.root_volume ?? null) !== null;
  if (changes && (config.disk_size ?? null) === null) Object.assign(planned, { disk_size: UNKNOWN });
  if (!changed('root_volume')) return;
  for (const name of ['image', 'disk_size']) if (config[name] === null) Object.assign(planned, { [name]: UNKNOWN });
}

/** A VM has either an image or a root volume. Both may be known only after the apply. */
function checkOrigin({ config, diagnostics }: ValidateContext<Values>): void {
  const [image, root] = [config.image ?? null, config.root_volume ?? null];
  if (image === null && root === null)
    diagnostics.error('A VM needs an image or a root volume', 'Set exactly one of `image` and `root_volume`.', [
      'image',
    ]);
  if (image === null || root === null) {
    if (root === null || root === UNKNOWN || (config.disk_size ?? null) === null) return;
    const advice = 'Remove `disk_size`, and set `size` of the volume.';
    diagnostics.error('A root volume has a size of its own', advice, ['disk_size']);
    return;
  }
  if (image === UNKNOWN || root === UNKNOWN) return;
  const both = 'Exactly one of `image` and `root_volume` must be set: a root volume has an image of its own.';
  diagnostics.error('A VM with a root volume has no other image', both, ['image']);
}

/**
 * Fields of the status that change without an apply: the guest becomes ready, or restarts by itself. Terraform should not
 * report such changes. So the state keeps its status until another field of the status changes.
 */
const changesByItself: ReadonlySet<string> = new Set([
  'ready',
  'started_at',
  'reason',
  'message',
  'user_data',
  'user_data_exit_code',
  'changing_interfaces',
]);

function keepStatus(known: Value | undefined, answer: Value | undefined): Values {
  if (!isObject(known) || !isObject(answer)) return {};
  const names = Object.keys(answer).filter((name) => !changesByItself.has(name));
  const same = names.every((name) => JSON.stringify(known[name]) === JSON.stringify(answer[name]));
  return same ? { status: known } : {};
}

async function waitForState(item: Item, ctx: WaitContext): Promise<Item> {
  const started = ctx.planned.user_data_change === 'restart' ? await restartForUserData(item, ctx) : item;
  // The time limit is over, and the diagnostics say so.
  if (ctx.signal.aborted) return started;
  const reached = ctx.planned.wait_for === 'none' ? started : await waitForGoal(started, ctx);
  warnOfPendingRestart(reached, ctx);
  warnOfFailedUserData(reached, ctx);
  return reached;
}

/** Tells whether the guest has its interfaces, or gets them only at its next start. An earlier API does not say so. */
const hasInterfaces = ({ changing_interfaces = [], pending_changes }: Partial<Status>): boolean =>
  changing_interfaces.length === 0 || pending_changes?.includes('interfaces') === true;

function waitForGoal(item: Item, ctx: WaitContext): Promise<Item> {
  const { wait_for: choice } = ctx.planned;
  const stopped = item.power_state === 'stopped';
  const goal = stopped ? 'stopped' : String(choice);
  return waitFor(ctx, path, item, {
    what: `VM "${String(item.name)}" is not ${goal}`,
    reached: (now) => {
      const { phase, ready } = statusOf(now);
      if (stopped) return phase === 'stopped';
      return phase === 'running' && (choice !== 'ready' || ready) && hasInterfaces(statusOf(now));
    },
    failed: (now) => (statusOf(now).phase === 'error' ? stateSentence(statusOf(now)) : undefined),
    state: (now) => {
      const status = statusOf(now);
      const changing = 'It is running, but its guest has not taken or released an interface.';
      if (status.phase === 'running' && !hasInterfaces(status)) return changing;
      const silent = 'It is running, but its guest has not reported that ucloud-init or cloud-init has finished.';
      if (status.phase !== 'running') return stateSentence(status);
      return status.message === undefined ? silent : `${silent} ${status.message}`;
    },
  });
}

/** Warns if a change of this apply waits for the next start of the VM. */
function warnOfPendingRestart(item: Item, { changes, diagnostics }: WaitContext): void {
  const pending: readonly string[] = statusOf(item).pending_changes ?? [];
  const waiting = changes.filter((name) => pending.includes(name));
  const [first] = waiting;
  if (first === undefined) return;
  diagnostics.warning(
    `VM "${String(item.name)}" must restart for the change`,
    `The change of ${waiting.map((name) => `\`${name}\``).join(', ')} takes effect at the next start of the VM. Reboot the VM at a suitable time.`,
    [first],
  );
}

const oneOf =
  (allowed: readonly string[]) =>
  (value: string): string | undefined =>
    allowed.includes(value)
      ? undefined
      : `Must be one of ${allowed.map((choice) => `"${choice}"`).join(', ')}, not ${JSON.stringify(value)}.`;

export const vm = deriveResource(schemaOf('vm'), {
  attributes: {
    wait_for: attribute.string({
      description:
        'The state that apply waits for. `running`: the VM runs. `ready`: the guest has reported that ucloud-init or cloud-init has finished. `none`: apply does not wait. Apply waits for a VM with `power_state = "stopped"` until it has stopped.',
      default: 'running',
      optional: true,
      computed: true,
      validate: oneOf(waitChoices),
    }),
    image_change: attribute.string({
      description:
        'The effect of a change of `image`, such as a newer image of a family. `replace`: Terraform replaces the VM. `ignore`: the VM keeps its image, and VMs that are created later get the new one.',
      default: 'replace',
      validate: oneOf(imageChanges),
    }),
    user_data_wo: attribute.string({
      description:
        'The same as `user_data`, but in neither plan nor state. It accepts an ephemeral value. Requires `user_data_wo_version`. The API still shows it to callers that may change the VM.',
      optional: true,
      writeOnly: true,
      validate: (value) => problemWith(userData, value),
    }),
    user_data_wo_version: attribute.number({
      description: 'A number that you change whenever you change `user_data_wo`. Removing both is a change, too.',
      optional: true,
    }),
    user_data_change: attribute.string({
      description:
        'The effect of a change of `user_data` or `user_data_wo_version`. `replace`: Terraform replaces the VM. `restart`: the VM restarts, and ucloud-init in the guest runs the new user data; cloud-init does not repeat most of it. `ignore`: no effect on the existing VM, only on VMs that are created later.',
      default: 'replace',
      validate: oneOf(changes),
    }),
  },
  override: {
    user_data: {
      description: `${userData.description.replace(/ A change takes effect .*$/, '')} \`user_data_change\` selects the effect of a change. If \`user_data\` is omitted, a VM keeps its user data.`,
    },
  },
  request: ({ user_data_wo }) => (typeof user_data_wo === 'string' ? { user_data: normalUserData(user_data_wo) } : {}),
  change: changeUserData,
  keep: (known, applying, answer) => ({
    ...keepUserData(known, applying),
    ...(!applying && keepStatus(known.status, answer.status)),
  }),
  validate(ctx) {
    validateUserData(ctx);
    checkMacs(ctx);
    checkOrigin(ctx);
  },
  hint(error, config) {
    if (error.code !== 'address_taken') return undefined;
    const computed = (error.problem.errors ?? []).some(({ pointer }) => {
      const index = Number(pointer.match(/^\/interfaces\/(\d+)/)?.[1]);
      const configured = Array.isArray(config.interfaces) ? (config.interfaces[index] as unknown) : undefined;
      return isObject(configured) && configured.mac === null;
    });
    return computed
      ? 'The plan computed the MAC address from project and name, but a renamed VM still has that address. Plan again: the API will then choose another address. If this configuration renames the other VM, add it to `depends_on` of this VM, so that Terraform plans this VM afterwards.'
      : undefined;
  },
  imported: { wait_for: 'running', user_data_change: 'replace', image_change: 'replace' },
  timeouts: { create: '10m', update: '10m', delete: '10m' },
  modifyPlan,
  checkCreation: warnOfDeprecation,
  waitForState,
});
