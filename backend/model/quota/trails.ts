/**
 * The records that changes leave behind, and the number of them that each project keeps: nobody fills the database by changing one object
 * back and forth. The newest are kept. What belongs to no project (the operators' own) counts as one more project.
 */

/** Kept in memory by every API server, hence few. */
export const keptEvents = 10_000;
/** Operations that have ended. */
export const keptOperations = 1000;
/** Answers for an Idempotency-Key: by number, and by bytes as they are stored. */
export const keptAnswers = 10_000;
export const keptAnswerBytes = 16 * 2 ** 20;
export const keptAuditRecords = 50_000;

export interface Trail {
  readonly key: string;
  readonly project: string;
  readonly at: string;
  readonly bytes: number;
}

/** Those that have to go, of any number of projects: each keeps its newest, as many as both limits let it. */
export function beyond<T extends Trail>(trails: Iterable<T>, max: number, maxBytes = Number.POSITIVE_INFINITY): T[] {
  const byProject = new Map<string, T[]>();
  for (const trail of trails) {
    const own = byProject.get(trail.project);
    if (own) own.push(trail);
    else byProject.set(trail.project, [trail]);
  }
  return [...byProject.values()].flatMap((own) => {
    const newestFirst = own.toSorted((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
    let bytes = 0;
    const going = newestFirst.findIndex((trail, index) => {
      bytes += trail.bytes;
      return index >= max || bytes > maxBytes;
    });
    return going < 0 ? [] : newestFirst.slice(going);
  });
}

export interface AuditTrail extends Trail {
  readonly token: string;
  readonly operation: string;
}

/** How many each group may keep, so that all of them keep no more than `most`: small groups keep all they have. */
function levelOf(sizes: readonly number[], most: number): number {
  let left = most;
  for (const [index, size] of sizes.toSorted((a, b) => a - b).entries()) {
    const groups = sizes.length - index;
    if (size * groups > left) return Math.floor(left / groups);
    left -= size;
  }
  return most;
}

function kept<T>(own: readonly T[], most: number, by: readonly ((trail: T) => string)[]): readonly T[] {
  if (own.length <= most) return own;
  const [group, ...others] = by;
  const groups = group && Map.groupBy(own, group);
  if (!groups || groups.size > most) {
    const oldest = Math.floor(most / 2);
    return [...own.slice(0, oldest), ...own.slice(own.length - (most - oldest))];
  }
  const level = levelOf(
    [...groups.values()].map(({ length }) => length),
    most,
  );
  return [...groups.values()].flatMap((each) => kept(each, level, others));
}

/**
 * The same for the audit, from which nobody must be able to push their own deed. Of the operation that is there most
 * often, and of the token that did it most often, those in the middle go first. So a flood takes the place of itself.
 */
export function beyondAudit<T extends AuditTrail>(trails: Iterable<T>, most: number): T[] {
  const byProject = Map.groupBy(trails, ({ project }) => project);
  return [...byProject.values()].flatMap((own) => {
    if (own.length <= most) return [];
    const oldestFirst = own.toSorted((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
    const staying = new Set(kept(oldestFirst, most, [({ operation }) => operation, ({ token }) => token]));
    return oldestFirst.filter((trail) => !staying.has(trail));
  });
}
