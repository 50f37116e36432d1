/** What ucloud leaves on a machine, as a list that can be compared: interfaces, packet filters, processes. */
import { exec } from './steps.ts';

const lines = (text: string) => text.split('\n').filter((line) => line.trim() !== '');

export async function footprint(): Promise<string[]> {
  const [links, routes, processes] = await Promise.all([
    exec('ip', ['-br', 'link', 'show']).then(({ stdout }) =>
      lines(stdout).map((line) => `interface ${line.split(/[ @]/)[0]}`),
    ),
    exec('ip', ['-6', 'route', 'show']).then(({ stdout }) => lines(stdout).map((line) => `route ${line.trim()}`)),
    exec('ps', ['-eo', 'comm']).then(({ stdout }) =>
      lines(stdout)
        .filter((name) => /^(qemu-system|radvd)/.test(name))
        .map((name) => `process ${name}`),
    ),
  ]);
  const tables = await exec('nft', ['list', 'tables']).then(
    ({ stdout }) => lines(stdout).map((line) => `packet filter ${line}`),
    () => [],
  );
  return [...links, ...routes, ...processes, ...tables].sort();
}

/** What `after` has more of than `before`. */
export function leftBehind(before: readonly string[], after: readonly string[]): string[] {
  const rest = [...before];
  return after.filter((line) => {
    const at = rest.indexOf(line);
    if (at < 0) return true;
    rest.splice(at, 1);
    return false;
  });
}
