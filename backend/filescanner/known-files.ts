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

/** The known files of one project. */
export class KnownProject {
  readonly files = new Map<Id<'file'>, KnownFile>();
  bytes = 0;

  set(id: Id<'file'>, file: KnownFile): void {
    this.bytes += file.size - (this.files.get(id)?.size ?? 0);
    this.files.set(id, file);
  }

  delete(id: Id<'file'>): void {
    this.bytes -= this.files.get(id)?.size ?? 0;
    this.files.delete(id);
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
