/**
 * The tables of security groups of one instance, and the established connections. A changed rule alone would leave these as they
 * are. So the host looks at the connections afterwards, and removes the entries of those that the rules no longer allow.
 *
 * The host stores a digest of the rules whose connections it has checked. A host that dies between the two steps checks them
 * again after its restart.
 */
import { createHash } from 'node:crypto';
import { CommandError, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { limitLines } from './connection-limits.ts';
import { decisionOf, deletionsOf, type Entry, entriesIn } from './connections.ts';
import { type GroupFilter, groupRules } from './group-filter.ts';

/** The rules that apply to one interface. */
interface Applied {
  readonly rules: string;
  /** The addresses on the other side of its rules, each with the name of its set. */
  readonly peers: ReadonlySet<string>;
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const wholeDigest = ({ rules, peers }: Applied): string => digest(`${rules} ${[...peers].sort().join(' ')}`);
/** The number of an interface in the table of limits. */
const numberOf = (mac: string): number => Number.parseInt(mac.replaceAll(':', '').slice(-8), 16) || 1;

/** Returns what applies to each interface, by MAC address. */
function appliedTo({ groups, peers, ports }: GroupFilter): Map<string, Applied> {
  const groupOf = new Map<string, GroupFilter['groups'][number]>(groups.map((group) => [group.id, group]));
  const addressesOf = new Map(peers.map(({ name, addresses }) => [name, addresses]));
  return new Map(
    ports.map(({ mac, groups: ids }) => {
      const own = ids.flatMap((id) => groupOf.get(id) ?? []);
      const names = new Set(own.flatMap(({ rules }) => rules.flatMap((rule) => rule.peers ?? [])));
      const found = [...names].flatMap((name) => (addressesOf.get(name) ?? []).map((address) => `${name} ${address}`));
      return [mac, { rules: digest(JSON.stringify(own)), peers: new Set(found) }];
    }),
  );
}

/** The tables of security groups. */
export class GroupTable {
  readonly #table: string;
  readonly #limits: string;
  readonly #file: string;
  readonly #run: Run;
  #applied: { readonly wanted: string; readonly listing: string } | undefined;
  /** There are no tables. Hosts without security groups need no command to know it each time. */
  #isAbsent = false;
  /** The rules whose connections are checked. Undefined: this process has checked none. */
  #checked: Map<string, Applied> | undefined;

  /** @param file the file for the digests of checked rules */
  constructor(table: string, file: string, run: Run) {
    this.#table = `${table}_groups`;
    this.#limits = `${table}_limits`;
    this.#file = file;
    this.#run = run;
  }

  /** Returns the listing of a table without the elements of sets; empty if there is none. */
  async #list(table: string): Promise<string> {
    try {
      const listing = await this.#run('nft', ['-t', 'list', 'table', 'inet', table]);
      return listing.replace(/\bpackets \d+ bytes \d+/g, 'packets 0 bytes 0');
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return '';
      throw error;
    }
  }

  /** Puts the rules in force, in one transaction. */
  async apply(filter: GroupFilter): Promise<void> {
    if (filter.ports.length === 0 && this.#isAbsent) return;
    const [rules, limits] = [await this.#list(this.#table), await this.#list(this.#limits)];
    this.#isAbsent = filter.ports.length === 0 && rules === '' && limits === '';
    if (this.#isAbsent) return;
    const wanted = digest(JSON.stringify(filter));
    if (this.#applied?.wanted === wanted && this.#applied.listing === `${rules}${limits}`) return;
    const lines = [
      ...groupRules(this.#table, filter),
      ...limitLines(this.#limits, filter.ports, limits !== '', numberOf),
    ];
    await this.#run('nft', ['-f', '-'], `${lines.join('\n')}\n`);
    this.#applied = { wanted, listing: `${await this.#list(this.#table)}${await this.#list(this.#limits)}` };
  }

  /**
   * Removes the entries of connections that the rules no longer allow. The rules are in force before.
   * @returns the fault, if connections could not be checked
   */
  async recheck(filter: GroupFilter): Promise<string | undefined> {
    const now = appliedTo(filter);
    const addresses = await this.#changedAddresses(filter, now);
    try {
      const refused = new Map<string, Entry>();
      const allowed: Entry[] = [];
      const isAllowed = decisionOf(filter);
      for (const address of addresses) {
        for (const entry of await this.#entriesOf(address)) {
          if (isAllowed(entry)) allowed.push(entry);
          else refused.set(JSON.stringify(entry), entry);
        }
      }
      for (const args of deletionsOf([...refused.values()], allowed)) await this.#forget(args);
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      return `connections may keep their former security groups: ${cause}`;
    }
    await this.#store(now);
    this.#checked = now;
    return undefined;
  }

  /** Returns the addresses and prefixes whose connections the change of rules may concern. New peers refuse nothing. */
  async #changedAddresses({ ports }: GroupFilter, now: ReadonlyMap<string, Applied>): Promise<Set<string>> {
    const stored = this.#checked === undefined ? await this.#read() : undefined;
    const found = new Set<string>();
    for (const { mac, addresses } of ports) {
      const [before, after] = [this.#checked?.get(mac), now.get(mac)];
      if (after === undefined) continue;
      if (before !== undefined && before.rules === after.rules) {
        for (const peer of before.peers) if (!after.peers.has(peer)) found.add(peer.slice(peer.indexOf(' ') + 1));
      } else if (stored?.get(mac) !== wholeDigest(after)) for (const address of addresses) found.add(address);
    }
    return found;
  }

  async #entriesOf(address: string): Promise<Entry[]> {
    const entries: Entry[] = [];
    for (const side of ['-s', '-d']) {
      entries.push(...entriesIn(await this.#run('conntrack', ['-L', '-f', 'ipv6', side, address])));
    }
    return entries;
  }

  /** Removes entries from the connection table. */
  async #forget(args: readonly string[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#run('conntrack', ['-D', '-f', 'ipv6', ...args]);
        return;
      } catch (error) {
        const stderr = error instanceof CommandError ? error.stderr : '';
        // The program fails if there is no entry, and ends early if an entry ends meanwhile.
        if (/\b0 flow entries/.test(stderr)) return;
        if (!/such conntrack doesn't exist/.test(stderr) || attempt >= 10) throw error;
      }
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

  /** Returns one readable line for each table that exists. */
  async inventory(): Promise<string[]> {
    const found: string[] = [];
    for (const table of [this.#table, this.#limits]) {
      if ((await this.#list(table)) !== '') found.push(`nftables table inet ${table}`);
    }
    return found;
  }

  /** Removes the tables. */
  async remove(): Promise<void> {
    const tables = [this.#table, this.#limits];
    const lines = tables.flatMap((table) => [`add table inet ${table}`, `delete table inet ${table}`]);
    await this.#run('nft', ['-f', '-'], `${lines.join('\n')}\n`);
    this.#applied = undefined;
  }
}
