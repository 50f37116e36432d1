/**
 * The tables of the kernel that all guests and programs of a machine share. The agent tells operators before one of them is
 * full, because the machine would then drop packets of everybody.
 */
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { newEvent } from '../model/events.ts';
import { events } from '../model/records/index.ts';
import { put } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import { readIfThere } from './system/files.ts';

/** The use of a table. */
export interface TableUse {
  readonly name: string;
  readonly entries: number;
  readonly max: number;
}

/** A table counts as nearly full above the first share, until it falls below the second one. */
const [alertShare, calmShare] = [0.8, 0.6];
const intervalMs = 10_000;

/** Returns the names of the tables that are nearly full. @param before the names of those that were */
export function nearlyFull(tables: readonly TableUse[], before: ReadonlySet<string>): Set<string> {
  const isNearlyFull = ({ name, entries, max }: TableUse) =>
    max > 0 && entries > max * (before.has(name) ? calmShare : alertShare);
  return new Set(tables.filter(isNearlyFull).map(({ name }) => name));
}

/** Reads the use of the tables. A table that the kernel does not show is left out. @param proc default: /proc */
export async function readTables(proc = '/proc'): Promise<TableUse[]> {
  const read = async (path: string) => (await readIfThere(join(proc, path)))?.trim();
  const number = async (path: string) => {
    const text = await read(path);
    return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
  };
  // The first column of each row is the number of entries of the whole machine, in hexadecimal digits.
  const row = (await read('net/stat/ndisc_cache'))?.split('\n')[1];
  const neighbours = row === undefined ? undefined : Number.parseInt(row, 16);
  const found: [name: string, entries: number | undefined, max: number | undefined][] = [
    ['neighbour', neighbours, await number('sys/net/ipv6/neigh/default/gc_thresh3')],
    [
      'connection',
      await number('sys/net/netfilter/nf_conntrack_count'),
      await number('sys/net/netfilter/nf_conntrack_max'),
    ],
  ];
  return found.flatMap(([name, entries, max]) =>
    entries === undefined || Number.isNaN(entries) || max === undefined ? [] : [{ name, entries, max }],
  );
}

/** Options of `KernelTables`. */
export interface KernelTablesOptions {
  readonly store: Store;
  readonly logger: Logger;
  readonly host: Id<'host'>;
  /** The host name of the machine. */
  readonly name: string;
  /** For tests. */
  readonly read?: () => Promise<TableUse[]>;
}

/** Watches the tables, and writes an event when one is nearly full. */
export class KernelTables {
  readonly #options: KernelTablesOptions;
  readonly #timer: NodeJS.Timeout;
  #full: Set<string> = new Set();

  constructor(options: KernelTablesOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.look(), intervalMs).unref();
  }

  /** Looks at the tables once. Never rejects. */
  async look(): Promise<void> {
    const { store, logger, host, name, read = readTables } = this.#options;
    try {
      const tables = await read();
      const before = this.#full;
      const full = nearlyFull(tables, before);
      this.#full = new Set([...before].filter((table) => full.has(table)));
      for (const { name: table, entries, max } of tables) {
        if (!full.has(table) || before.has(table)) continue;
        const message = `The ${table} table of the kernel of ${name} has ${entries} of ${max} entries. When it is full, packets are lost.`;
        logger.warn({ table, entries, max }, 'a table of the kernel is nearly full');
        const details = { severity: 'warning', reason: 'kernel_table_nearly_full', message } as const;
        await store.commit({ write: [put(events, ...newEvent(new Date(), { id: host }, details))] });
        // Without its event, the next look tells of the table again.
        this.#full.add(table);
      }
    } catch (err) {
      logger.warn({ err }, 'the use of the tables of the kernel could not be read or reported');
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
