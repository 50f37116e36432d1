/**
 * The MAC address of a new VM without a configured address, if the provider can know it before the VM exists.
 *
 * The API computes the address from project and name. If a renamed VM still has that address, the API chooses another one.
 * The provider reads the MAC addresses of a project once in a run, because Terraform plans one VM after the other.
 *
 * A VM of the same name may have the address: names are unique, so Terraform destroys that VM before it creates the new
 * one. But if this plan gives the VM another name, it keeps its address. A rename counts as soon as Terraform has planned
 * it. If the new VM depends on the renamed VM, this is always in time; else the provider waits 500 ms for it. Terraform
 * plans everything again right before an apply, and a value known from the first plan must not become unknown. So both
 * plans follow the same rule.
 */
import type { Client } from '../client/client.ts';
import { defaultMac } from '../net/mac.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Vm = components['schemas']['Vm'];

/** A VM that has a MAC address. */
interface Holder {
  readonly id: string;
  readonly name: string;
}

/** The time to wait for the plan of the VM that has the address, in milliseconds. */
const renameGraceMs = 500;

/** Returns the VMs of a project by MAC address. */
async function readHolders(client: Client, project: string): Promise<ReadonlyMap<string, Holder>> {
  const holders = new Map<string, Holder>();
  for (const { id, name, interfaces } of (await client.listAll(schemaOf('vm').path, { project })) as unknown as Vm[]) {
    for (const { mac } of interfaces) holders.set(mac, { id, name });
  }
  return holders;
}

/** Returns the address that follows from project, name and index; undefined if another VM will have it. */
export async function plannedMac(
  { client, session }: { readonly client: Client | undefined; readonly session: PlanSession | undefined },
  { project, name }: { readonly project: string; readonly name: string },
  index: number,
): Promise<string | undefined> {
  const mac = defaultMac(project, name, index);
  if (!client || !session) return mac;
  // Without the signal of this call, because other calls wait for the same answer.
  const holders = await session.once(`MAC addresses of ${project}`, () => readHolders(client, project));
  const holder = holders.get(mac);
  if (holder === undefined || session.deletions.has(holder.id)) return mac;
  if (holder.name !== name) return undefined;
  await session.names.planned(holder.id, renameGraceMs);
  return session.names.keeps(holder.id, name) === false ? undefined : mac;
}
