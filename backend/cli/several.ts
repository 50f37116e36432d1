/** A command for several objects. A failure of one does not stop the others. */
import { tell } from './standard-output.ts';

/** The number of concurrent requests. */
const atOnce = 8;

/** Some of the objects failed, and each failure was printed. */
export class SomeFailed extends Error {}

/** Runs `work` for each object. @throws SomeFailed after all objects, or the error of the only object */
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
        // The same object may be given by id and by name.
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
