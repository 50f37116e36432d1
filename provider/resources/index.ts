/**
 * The resources: one for each noun that the API can create, and files, which uploads create. A resource with behaviour of its
 * own has a file here.
 */
import type { Client } from '../client/client.ts';
import type { Lazy, ResourceDefinition, Values } from '../framework/index.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';
import { creatable, type Noun, schemaOf } from '../schema/resources.gen.ts';

type Definition = Lazy<ResourceDefinition<Values, Client, PlanSession>>;

/** The nouns of the resources. */
const declarable: readonly Noun[] = [...creatable, 'file'];

const special: Readonly<Record<string, Definition>> = {
  file: () => import('./file.ts').then((module) => module.file),
  image: () => import('./image.ts').then((module) => module.image),
  network: () => import('./network.ts').then((module) => module.network),
  order: () => import('./order.ts').then((module) => module.order),
  prefix: () => import('./prefix.ts').then((module) => module.prefix),
  prefix_pool: () => import('./prefix-pool.ts').then((module) => module.prefixPool),
  price: () => import('./price.ts').then((module) => module.price),
  snapshot: () => import('./snapshot.ts').then((module) => module.snapshot),
  ssh_key: () => import('./ssh-key.ts').then((module) => module.sshKey),
  token: () => import('./token.ts').then((module) => module.token),
  volume: () => import('./volume.ts').then((module) => module.volume),
  volume_attachment: () => import('./volume-attachment.ts').then((module) => module.volumeAttachment),
  vm: () => import('./vm.ts').then((module) => module.vm),
};

/** The resources by noun. */
export const resources: Readonly<Record<string, Definition>> = Object.fromEntries(
  declarable.map((noun) => [
    noun,
    special[noun] ?? (async () => (await import('../derive/resource.ts')).deriveResource(schemaOf(noun))),
  ]),
);
