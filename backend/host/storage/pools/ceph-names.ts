/**
 * The names of images that are written under a temporary name, and renamed when they are complete.
 *
 * Ceph renames in three steps: it creates the object `rbd_id.<name>`, which leads to the image, it changes the directory of
 * the pool, and it removes `rbd_id.<temporary>`. After a crash between the first two steps, both names open one image, and
 * the directory has only the temporary one. The removal of the temporary image would then remove the named one.
 */
import { type CephClient, exists, notFound } from './ceph-client.ts';
import { PoolFault } from './pool-driver.ts';

/** Returns the beginning of the temporary names for this name. */
export const temporaryOf = (name: string): string => `${name.replace('ucloud.', 'ucloud.new.')}.`;

/** Returns the name that follows on this temporary name; undefined for other names. */
export function finalOf(temporary: string): string | undefined {
  const id = /^ucloud\.new\.((?:img|vol)-[0-9a-z]{16})\.[0-9a-f]{16}$/.exec(temporary)?.[1];
  return id === undefined ? undefined : `ucloud.${id}`;
}

/** The state of a name. An image that is `being_named` has a client, which may be renaming it. */
export type NameState = 'named' | 'absent' | 'being_named';

/** The names of images in one pool. */
export class CephNames {
  readonly #client: CephClient;

  constructor(client: CephClient) {
    this.#client = client;
  }

  /** Gives a complete image its name. Returns false if another image has the name. */
  async publish(temporary: string, name: string): Promise<boolean> {
    const rename = () => this.#client.rbd('rename', temporary, name);
    let outcome = await rename();
    if (outcome.errno === exists && (await this.#client.find(name)) === undefined) {
      // The name leads to no image: a creation was interrupted, or the image of an interrupted renaming is gone.
      await this.#client.trash(name);
      await this.#dropName(name);
      outcome = await rename();
    }
    if (!outcome.ok && outcome.errno !== exists) throw this.#client.failure(`name ${name}`, 'rbd', outcome);
    return outcome.ok;
  }

  /** Tells whether an image has the name, after it has completed a renaming that was interrupted. */
  async settle(name: string): Promise<NameState> {
    const image = await this.#client.find(name);
    if (image === undefined) return 'absent';
    const names = await this.#client.names();
    if (names.includes(name)) return 'named';
    for (const temporary of names.filter((each) => each.startsWith(temporaryOf(name)))) {
      if ((await this.#client.find(temporary))?.id !== image.id) continue;
      // A host that renames the image has it open. After a crash, Ceph forgets the client within a minute.
      if ((await this.#client.clientsOf(temporary)).length > 0) return 'being_named';
      await this.#dropName(name);
      return (await this.publish(temporary, name)) ? 'named' : 'being_named';
    }
    // Another host has completed the renaming meanwhile, or the image is in the trash.
    if ((await this.#client.names()).includes(name)) return 'named';
    await this.#dropName(name);
    return 'absent';
  }

  /** Moves a temporary image to the trash, unless its renaming has begun. Returns whether it has moved it. */
  async discard(temporary: string): Promise<boolean> {
    const name = finalOf(temporary);
    if (name === undefined) throw new Error(`not a temporary name: ${JSON.stringify(temporary)}`);
    const image = await this.#client.find(temporary);
    if (image !== undefined && (await this.#client.find(name))?.id === image.id) {
      // A crash before the last step of a renaming leaves the temporary name beside the directory.
      if ((await this.settle(name)) === 'named') await this.#dropName(temporary);
      return false;
    }
    await this.#client.trash(temporary);
    return true;
  }

  /** Removes the object that leads from the name to its image. The image stays. */
  async #dropName(name: string): Promise<void> {
    const outcome = await this.#client.rados('rm', `rbd_id.${name}`);
    if (!outcome.ok && outcome.errno !== notFound)
      throw this.#client.failure(`free the name ${name}`, 'rados', outcome);
  }

  /** Tells the same of a name that hosts do not share. @throws PoolFault while another host names the image */
  async isNamed(name: string): Promise<boolean> {
    const state = await this.settle(name);
    if (state === 'being_named') throw new PoolFault(`${name} gets its name from another host`);
    return state === 'named';
  }
}
