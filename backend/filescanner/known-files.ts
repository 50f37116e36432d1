/**
 * The files of this server that have a record, in a compact form: about 250 bytes for each file. The scanner is the only
 * writer of these records, so it reads them once and then follows its own commits.
 */
import type { Id } from '../contract/fields.ts';
import { files } from '../model/records/index.ts';
import { readAll } from '../store/collection.ts';
import type { Store } from '../store/store.ts';

/** A file with a record. */
export interface KnownFile {
  readonly fingerprint: string;
  readonly size: number;
  readonly createdAt: string;
}

interface MarkedFile extends KnownFile {
  /** The number of the last scan that saw the file. */
  seen: number;
}

/** The known files of one project. A mark at each file tells which of them the scan in progress has seen. */
export class KnownProject {
  readonly #files = new Map<Id<'file'>, MarkedFile>();
  #scan = 0;
  bytes = 0;

  /** The number of files. */
  get count(): number {
    return this.#files.size;
  }

  get(id: Id<'file'>): KnownFile | undefined {
    return this.#files.get(id);
  }

  /** Sets a file. It counts as seen. */
  set(id: Id<'file'>, { fingerprint, size, createdAt }: KnownFile): void {
    this.bytes += size - (this.#files.get(id)?.size ?? 0);
    this.#files.set(id, { fingerprint, size, createdAt, seen: this.#scan });
  }

  delete(id: Id<'file'>): void {
    this.bytes -= this.#files.get(id)?.size ?? 0;
    this.#files.delete(id);
  }

  ids(): Iterable<Id<'file'>> {
    return this.#files.keys();
  }

  /** Begins a scan: no file has been seen. */
  beginScan(): void {
    this.#scan++;
  }

  /** Marks a file as seen. Returns false if it was seen before. */
  see(id: Id<'file'>): boolean {
    const file = this.#files.get(id);
    if (!file || file.seen === this.#scan) return false;
    file.seen = this.#scan;
    return true;
  }

  /** Iterates over the ids of all files, with undefined for those that the scan has seen. */
  *unseen(): Generator<Id<'file'> | undefined, void> {
    for (const [id, { seen }] of this.#files) yield seen === this.#scan ? undefined : id;
  }
}

/** The known files of one server, by project. */
export class KnownFiles {
  readonly projects = new Map<Id<'project'>, KnownProject>();

  of(project: Id<'project'>): KnownProject {
    let known = this.projects.get(project);
    if (!known) {
      known = new KnownProject();
      this.projects.set(project, known);
    }
    return known;
  }

  /** Reads the records of the server from the database. */
  static async read(store: Store, server: Id<'file_server'>): Promise<KnownFiles> {
    const known = new KnownFiles();
    for await (const { value } of readAll(store, files)) {
      if (value.server !== server) continue;
      const { id, project, fingerprint, size, created_at: createdAt } = value;
      known.of(project).set(id, { fingerprint, size, createdAt });
    }
    return known;
  }
}
