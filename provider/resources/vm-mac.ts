/**
 * The MAC address that a VM will have where its user gives none, as far as it can be known before the VM exists.
 *
 * It follows from project and name, unless a VM that was renamed still has it; then the API chooses another. Terraform
 * plans a change twice, and what was known the first time must not have become unknown the second, right before it is
 * applied. So what counts is the name that a holder had when Terraform began, not the one that it gets in the same run.
 *
 * Who has which address is asked once in a run, for the whole project: Terraform plans VM after VM.
 */
import type { components } from '../client/api.gen.ts';
import type { Client } from '../client/client.ts';
import { defaultMac } from '../net/mac.ts';
import { schemaOf } from './schema.gen.ts';

type Vm = components['schemas']['Vm'];

interface Holder {
  readonly id: string;
  readonly name: string;
}

interface Run {
  /** By project, who has a MAC address. */
  readonly holders: Map<string, Promise<ReadonlyMap<string, Holder>>>;
  /** By id, the names that VMs had in the state that Terraform began with. */
  readonly names: Map<string, string>;
}

/** A client lives as long as a run of Terraform plans, or applies. */
const runs = new WeakMap<Client, Run>();

function runOf(client: Client): Run {
  let run = runs.get(client);
  if (!run) {
    run = { holders: new Map(), names: new Map() };
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

/** Notes what a VM is called before anything is changed. */
export function noteName(client: Client, id: string, name: string): void {
  const { names } = runOf(client);
  if (!names.has(id)) names.set(id, name);
}

/**
 * The address that follows from project, name and index. Undefined if a VM of another name has it. One of the same name is
 * no obstacle, as names are unique: it is the VM that this one replaces, or else it keeps this one from being made.
 */
export async function plannedMac(
  client: Client | undefined,
  { project, name }: { readonly project: string; readonly name: string },
  index: number,
): Promise<string | undefined> {
  const mac = defaultMac(project, name, index);
  if (!client) return mac;
  const holder = (await holdersIn(client, project)).get(mac);
  return holder === undefined || (runOf(client).names.get(holder.id) ?? holder.name) === name ? mac : undefined;
}
