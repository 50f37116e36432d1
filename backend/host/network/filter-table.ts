/** The tables of nftables of one instance: applied when the wanted rules or the listing by the kernel differ. */
import { CommandError, type Run } from '../system/command.ts';
import { type Family, families, type Rules, removeTable, ruleset } from './ruleset.ts';

const withoutCounts = (listing: string): string => listing.replace(/\bpackets \d+ bytes \d+/g, 'packets 0 bytes 0');

/** Returns the counters for source addresses in the listing of a table, by tap. */
const sourceDropsIn = (listing: string): ReadonlyMap<string, number> =>
  new Map(
    [...listing.matchAll(/^\s*counter (\w+)_source \{\s*packets (\d+) /gm)].map(([, tap = '', packets]) => [
      tap,
      Number(packets),
    ]),
  );

/** The packet filter of one instance. */
export class FilterTable {
  readonly #table: string;
  readonly #run: Run;
  /** The rule set that was applied last, and its listing by the kernel at that time, without counts. */
  #applied: { readonly wanted: string; readonly listing: string } | undefined;
  /** The numbers of frames that the filter dropped because of their source address, by tap. */
  sourceDrops: ReadonlyMap<string, number> = new Map();

  constructor(table: string, run: Run) {
    this.#table = table;
    this.#run = run;
  }

  /** Returns the listing of the table, without the elements that packets add; empty if there is no table. */
  async #list(family: Family): Promise<string> {
    try {
      const listing = await this.#run('nft', ['-t', 'list', 'table', family, this.#table]);
      // Each run lists the table, so the counts need no command of their own.
      if (family === 'netdev') this.sourceDrops = sourceDropsIn(listing);
      return withoutCounts(listing);
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return '';
      throw error;
    }
  }

  /** Puts the rules in force; without rules, it removes the tables. */
  async apply(rules: Rules | undefined): Promise<void> {
    const present = await this.#list('netdev');
    const showAll = async (netdev: string) => `${netdev}${await this.#list('inet')}`;
    const listing = await showAll(present);
    if (rules === undefined) {
      if (listing !== '') await this.remove();
      return;
    }
    const wanted = JSON.stringify(rules);
    if (this.#applied?.wanted === wanted && this.#applied.listing === listing) return;
    await this.#run('nft', ['-f', '-'], ruleset(this.#table, rules, present));
    this.#applied = { wanted, listing: await showAll(await this.#list('netdev')) };
  }

  /** Removes the tables. */
  async remove(): Promise<void> {
    const lines = families.flatMap((family) => removeTable(family, this.#table));
    await this.#run('nft', ['-f', '-'], `${lines.join('\n')}\n`);
    this.#applied = undefined;
  }

  /** Returns one readable line for each table that exists. */
  async inventory(): Promise<string[]> {
    const lines = await Promise.all(
      families.map(async (family) =>
        (await this.#list(family)) === '' ? [] : [`nftables table ${family} ${this.#table}`],
      ),
    );
    return lines.flat();
  }
}
