/** The same for several objects: each is tried, whatever becomes of the others. */
import { tell } from './standard-output.ts';

/** Requests at the same time. */
const atOnce = 8;

/** Some could not be done; which ones has been told. */
export class SomeFailed extends Error {}

/** Fails as its only item does, or with SomeFailed after all have been tried. */
export async function forEach<T>(
  texts: readonly string[],
  idFor: (text: string) => Promise<string>,
  work: (id: string) => Promise<T>,
  done: (answers: readonly T[]) => Promise<void>,
): Promise<void> {
  const [only, ...more] = new Set(texts);
  if (only !== undefined && more.length === 0) return done([await work(await idFor(only))]);
  const seen = new Set<string>();
  const waiting = [...new Set(texts)].entries();
  const answers: T[] = [];
  let failures = 0;
  const worker = async () => {
    for (const [index, text] of waiting) {
      try {
        const id = await idFor(text);
        // By id and by name it is the same object.
        if (seen.has(id)) continue;
        seen.add(id);
        answers[index] = await work(id);
      } catch (error) {
        failures++;
        tell(`${text}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  await done(answers.filter((answer) => answer !== undefined));
  if (failures > 0) throw new SomeFailed(`${failures} of ${new Set(texts).size} failed`);
}
