/**
 * The MAC address that a VM will have where its user gives none, as far as it can be known before the VM exists.
 *
 * It follows from project and name, unless a VM that was renamed still has it; then the API chooses another. Who has which
 * address is asked once in a run, for the whole project: Terraform plans VM after VM.
 *
 * A VM of the same name that has the address is no obstacle, as names are unique: it will be gone before this one is made.
 * Unless this run gives it another name, when it keeps its address. Terraform does not tell what else it is about to plan,
 * so a rename counts as soon as it is planned: always in time where the new VM depends on the renamed one, and else if
 * Terraform comes to it while one waits a moment. Terraform plans everything a second time, right before it applies it, and
 * what was known then must not become unknown; that is why both times go by the same rule.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../client/client.ts';
import { defaultMac } from '../net/mac.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Vm = components['schemas']['Vm'];

interface Holder {
  readonly id: string;
  readonly name: string;
}

interface Run {
  /** By project, who has a MAC address. */
  readonly holders: Map<string, Promise<ReadonlyMap<string, Holder>>>;
  /** By id, what VMs will be called, as far as they have been planned. Undefined where that is not known yet. */
  readonly names: Map<string, string | undefined>;
  /** By id, who waits for one to be planned. */
  readonly waiting: Map<string, (() => void)[]>;
}

/** How long one waits for the plan of the VM that has the address, in milliseconds. */
const moment = 500;

/** A client lives as long as a run of Terraform plans, or applies. */
const runs = new WeakMap<Client, Run>();

function runOf(client: Client): Run {
  let run = runs.get(client);
  if (!run) {
    run = { holders: new Map(), names: new Map(), waiting: new Map() };
    runs.set(client, run);
  }
  return run;
}

async function askHolders(client: Client, project: string): Promise<ReadonlyMap<string, Holder>> {
  const holders = new Map<string, Holder>();
  for (const { id, name, interfaces } of (await client.listAll(schemaOf('vm').path, { project })) as unknown as Vm[]) {
    for (const { mac } of interfaces) holders.set(mac, { id, name });
  }
  return holders;
}

/** Not given the signal of whoever asks first, as the others want the answer, too; after an error it is asked again. */
function holdersIn(client: Client, project: string): Promise<ReadonlyMap<string, Holder>> {
  const { holders } = runOf(client);
  let asked = holders.get(project);
  if (!asked) {
    asked = askHolders(client, project);
    holders.set(project, asked);
    asked.catch(() => holders.delete(project));
  }
  return asked;
}

/** Notes what a VM that exists is planned to be called. */
export function notePlannedName(client: Client, id: string, name: unknown): void {
  const { names, waiting } = runOf(client);
  names.set(id, typeof name === 'string' ? name : undefined);
  for (const resolve of waiting.get(id) ?? []) resolve();
  waiting.delete(id);
}

/** Returns when the VM has been planned, or after a moment. */
async function untilPlanned({ names, waiting }: Run, id: string): Promise<void> {
  if (names.has(id)) return;
  const planned = new Promise<void>((resolve) => void waiting.set(id, [...(waiting.get(id) ?? []), resolve]));
  await Promise.race([planned, sleep(moment)]);
}

/** The address that follows from project, name and index. Undefined if another VM has it by then. */
export async function plannedMac(
  client: Client | undefined,
  { project, name }: { readonly project: string; readonly name: string },
  index: number,
): Promise<string | undefined> {
  const mac = defaultMac(project, name, index);
  if (!client) return mac;
  const holder = (await holdersIn(client, project)).get(mac);
  if (holder === undefined || client.capacity.isLeaving(holder.id)) return mac;
  if (holder.name !== name) return undefined;
  const run = runOf(client);
  await untilPlanned(run, holder.id);
  return !run.names.has(holder.id) || run.names.get(holder.id) === name ? mac : undefined;
}
