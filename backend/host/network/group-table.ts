/**
 * The table of security groups of one instance, and the established connections. A changed rule alone would leave these as
 * they are, so the host removes their entries afterwards: the next packet of each connection meets the new rules.
 *
 * The host stores a digest of the rules whose connections it has checked. A host that dies between the two steps checks them
 * again after its restart.
 */
import { createHash } from 'node:crypto';
import { CommandError, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { type GroupFilter, groupRules } from './group-filter.ts';

/** The rules that apply to one interface. */
interface Applied {
  readonly rules: string;
  /** The addresses on the other side of its rules. */
  readonly peers: ReadonlySet<string>;
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Returns what applies to each interface, by MAC address. */
function appliedTo({ groups, peers, ports }: GroupFilter): Map<string, Applied> {
  const groupOf = new Map<string, GroupFilter['groups'][number]>(groups.map((group) => [group.id, group]));
  const addressesOf = new Map(peers.map(({ name, addresses }) => [name, addresses]));
  return new Map(
    ports.map(({ mac, groups: ids }) => {
      const own = ids.flatMap((id) => groupOf.get(id) ?? []);
      const names = own.flatMap(({ rules }) => rules.flatMap((rule) => rule.peers ?? []));
      const found = new Set(names.flatMap((name) => addressesOf.get(name) ?? []));
      return [mac, { rules: digest(JSON.stringify(own)), peers: found }];
    }),
  );
}

/** Tells whether connections that were allowed before may now be refused. New addresses refuse nothing. */
const mayRefuse = (before: Applied, now: Applied): boolean =>
  before.rules !== now.rules || [...before.peers].some((address) => !now.peers.has(address));

/** The table of security groups. */
export class GroupTable {
  readonly #table: string;
  readonly #file: string;
  readonly #run: Run;
  #applied: { readonly text: string; readonly listing: string } | undefined;
  /** The rules whose connections are checked. Undefined: this process has checked none. */
  #checked: Map<string, Applied> | undefined;

  /** @param file the file for the digests of checked rules */
  constructor(table: string, file: string, run: Run) {
    this.#table = table;
    this.#file = file;
    this.#run = run;
  }

  /** Returns the listing of the table without the elements of sets; empty if there is none. */
  async list(): Promise<string> {
    try {
      const listing = await this.#run('nft', ['-t', 'list', 'table', 'inet', this.#table]);
      return listing.replace(/\bpackets \d+ bytes \d+/g, 'packets 0 bytes 0');
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return '';
      throw error;
    }
  }

  /** Puts the rules in force, in one transaction. */
  async apply(filter: GroupFilter): Promise<void> {
    const lines = groupRules(this.#table, filter);
    const text = `${lines.join('\n')}\n`;
    const listing = await this.list();
    if (filter.ports.length === 0 && listing === '') return;
    if (this.#applied?.text === text && this.#applied.listing === listing) return;
    await this.#run('nft', ['-f', '-'], text);
    this.#applied = { text, listing: await this.list() };
  }

  /**
   * Makes established connections meet the changed rules. The rules are in force before.
   * @returns the fault, if connections could not be checked
   */
  async recheck(filter: GroupFilter): Promise<string | undefined> {
    const now = appliedTo(filter);
    const stored = this.#checked === undefined ? await this.#read() : undefined;
    const isChecked = (mac: string, each: Applied) => {
      const before = this.#checked?.get(mac);
      if (before !== undefined) return !mayRefuse(before, each);
      return stored?.get(mac) === wholeDigest(each);
    };
    const changed = filter.ports.filter(({ mac }) => {
      const each = now.get(mac);
      return each !== undefined && !isChecked(mac, each);
    });
    for (const { addresses } of changed) {
      for (const address of addresses) {
        const fault = (await this.#forget('-s', address)) ?? (await this.#forget('-d', address));
        if (fault !== undefined) return fault;
      }
    }
    await this.#store(now);
    this.#checked = now;
    return undefined;
  }

  /** Removes the entries of an address from the connection table. */
  async #forget(side: '-s' | '-d', address: string): Promise<string | undefined> {
    try {
      await this.#run('conntrack', ['-D', '-f', 'ipv6', side, address]);
      return undefined;
    } catch (error) {
      // The program fails if there is no entry.
      if (error instanceof CommandError && error.stderr.includes('0 flow entries')) return undefined;
      return `the connections of ${address} keep their former security groups: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  async #read(): Promise<Map<string, string>> {
    const text = await readIfThere(this.#file);
    return new Map(text === undefined ? [] : (JSON.parse(text) as [string, string][]));
  }

  async #store(now: ReadonlyMap<string, Applied>): Promise<void> {
    const text = JSON.stringify([...now].map(([mac, each]) => [mac, wholeDigest(each)]));
    if ((await readIfThere(this.#file)) !== text) await writeAtomically(this.#file, text);
  }

  /** Returns one readable line if the table exists. */
  async inventory(): Promise<string[]> {
    return (await this.list()) === '' ? [] : [`nftables table inet ${this.#table}`];
  }

  /** Removes the table. */
  async remove(): Promise<void> {
    const lines = [`add table inet ${this.#table}`, `delete table inet ${this.#table}`];
    await this.#run('nft', ['-f', '-'], `${lines.join('\n')}\n`);
    this.#applied = undefined;
  }
}

const wholeDigest = ({ rules, peers }: Applied): string => digest(`${rules} ${[...peers].sort().join(' ')}`);
