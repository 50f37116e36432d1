/** The directory of a file server. It belongs to this server only if it contains its id, and may be unmounted at any time. */

import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { type FileServerRecord, fileServers } from '../model/records/index.ts';
import { put } from '../store/collection.ts';
import type { Mirror } from '../store/mirror.ts';
import type { Condition, Store } from '../store/store.ts';
import { Directory } from './directory.ts';
import { readServerId } from './server-id.ts';

interface ServerRootOptions {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly logger: Logger;
  readonly root: string;
  readonly name: string;
  readonly server: Id<'file_server'>;
  /** The condition that this scanner leads. */
  readonly holds: Condition;
  readonly termEnd: AbortSignal;
}

/** The root with the directories of projects. */
export class ServerRoot {
  readonly #options: ServerRootOptions;

  constructor(options: ServerRootOptions) {
    this.#options = options;
  }

  /** Opens the root if it is the directory of this server, and reports whether it is. */
  async open(): Promise<Directory | undefined> {
    const { root: path, server, logger } = this.#options;
    let root: Directory | undefined;
    let message: string | undefined;
    try {
      root = await Directory.open(path);
      const id = root && (await readServerId(root));
      if (!root) message = 'The directory of the file server is missing.';
      else if (id === undefined) message = 'The directory of the file server contains no id. It may not be mounted.';
      else if (id !== server) message = `The directory belongs to another file server, ${id}.`;
    } catch (err) {
      logger.warn({ err }, 'the directory of the file server cannot be read');
      message = 'The directory of the file server cannot be read.';
    }
    await this.#report(message);
    if (message === undefined) return root;
    await root?.close();
    return undefined;
  }

  /** Opens the directory of a project, if there is one and the root is that of this server. */
  async directory(project: Id<'project'>): Promise<Directory | undefined> {
    const root = await this.open();
    try {
      return await root?.directory(project);
    } finally {
      await root?.close();
    }
  }

  /** Tells whether the directory of the project is the one with this inode. */
  async isStill(project: Id<'project'>, inode: string): Promise<boolean> {
    const directory = await this.directory(project);
    try {
      return (await directory?.inode()) === inode;
    } finally {
      await directory?.close();
    }
  }

  async #report(message: string | undefined): Promise<void> {
    const { store, mirror, logger, server, name, holds } = this.#options;
    const before = mirror.get(fileServers, server)?.value;
    const phase = message === undefined ? 'available' : 'unavailable';
    if (before && before.phase === phase && before.message === message && before.name === name) return;
    const at = new Date().toISOString();
    const record: FileServerRecord = {
      id: server,
      name,
      phase,
      ...(message === undefined ? {} : { message }),
      at,
      created_at: before?.created_at ?? at,
    };
    if (message !== undefined) logger.warn({ server, message }, 'the file server is not available');
    try {
      const result = await store.commit({ require: [holds], write: [put(fileServers, server, record)] });
      if (!result.ok) return;
      const of = [{ kind: fileServers, id: server }];
      await mirror.waitForChange({ of, after: result.revision - 1, timeoutMs: 5000, signal: this.#options.termEnd });
    } catch (err) {
      // The next scan reports it.
      if (!(err instanceof UcloudError) || err.code !== 'store_unavailable') throw err;
      logger.warn({ err, server }, 'could not report the state of the file server');
    }
  }
}
