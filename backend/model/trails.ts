/**
 * What changes leave behind, and how much of it is kept of one project: nobody fills the database by changing one object
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
export function beyond<T extends Trail>(trails: Iterable<T>, most: number, mostBytes = Number.POSITIVE_INFINITY): T[] {
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
      return index >= most || bytes > mostBytes;
    });
    return going < 0 ? [] : newestFirst.slice(going);
  });
}
