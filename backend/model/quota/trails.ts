/**
 * The records that changes leave behind, and their maximum number per project. Without it, a user could fill the
 * database with changes of one object. The newest records are kept. Records without a project (those of operators)
 * count as one more project.
 */

/** The maximum number of events. Every API server has them in memory. */
export const keptEvents = 10_000;
/** The maximum number of ended operations. */
export const keptOperations = 1000;
/** The maximum number of answers for an Idempotency-Key, and of their stored bytes. */
export const keptAnswers = 10_000;
export const keptAnswerBytes = 16 * 2 ** 20;
/** The maximum number of audit records. */
export const keptAuditRecords = 50_000;

/** The fields of a record that the limits need. */
export interface Trail {
  readonly key: string;
  readonly project: string;
  readonly at: string;
  readonly bytes: number;
}

/** Returns the records beyond the limits. Each project keeps its newest records within both limits. */
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

/** The fields of an audit record that the limits need. */
export interface AuditTrail extends Trail {
  readonly token: string;
  readonly operation: string;
}

/** Returns the maximum size of each group so that the sum is at most `most`. Small groups keep all their records. */
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
 * Returns the audit records beyond the limit, so that no token can displace the record of its own change. The first to
 * be removed are the middle records of the most frequent operation and its most frequent token. So a flood displaces
 * only itself.
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
