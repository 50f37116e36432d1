/** The footprint of ucloud on a machine as a list of lines to compare: interfaces, packet filters, processes. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { instanceOf, interfaceAlias, runDirectory } from '../../backend/host/system/instance.ts';
import { controlDevice, labId } from '../../backend/lab/plan.ts';
import { exec } from './steps.ts';

const lines = (text: string) => text.split('\n').filter((line) => line.trim() !== '');

/** Returns the texts that occur in the command lines of a host's processes, for this data directory. */
export function processMarks(data: string): readonly string[] {
  const host = join(data, 'host');
  mkdirSync(host, { recursive: true, mode: 0o700 });
  const instance = instanceOf(host);
  // QEMU receives its files open, so only the name of its VM tells the instance.
  return [data, runDirectory(instance), interfaceAlias(instance, '')];
}

const labDevice = /\bulab[0-9a-f]{6}\b/;

/** Tells whether a line of `ip` names the device of a lab in another directory, which may start and stop meanwhile. */
const ofAnotherLab = (line: string, lab: string): boolean => {
  const device = labDevice.exec(line)?.[0];
  return device !== undefined && device !== controlDevice(labId(lab));
};

/** Lists the footprint, without the devices of labs in other directories than `lab`. It includes a process if its command line contains one of the marks. */
export async function footprint(marks: readonly string[], lab: string): Promise<string[]> {
  const [links, routes, processes] = await Promise.all([
    exec('ip', ['-br', 'link', 'show']).then(({ stdout }) =>
      lines(stdout)
        .filter((line) => !ofAnotherLab(line, lab))
        .map((line) => `interface ${line.split(/[ @]/)[0]}`),
    ),
    exec('ip', ['-6', 'route', 'show']).then(({ stdout }) =>
      lines(stdout)
        .filter((line) => !ofAnotherLab(line, lab))
        .map((line) => `route ${line.trim()}`),
    ),
    exec('ps', ['-eo', 'args'], { maxBuffer: 16 * 1024 * 1024 }).then(({ stdout }) =>
      lines(stdout)
        .filter((args) => /^\S*(qemu-system|radvd)/.test(args) && marks.some((mark) => args.includes(mark)))
        .map((args) => `process ${args.slice(0, 120)}`),
    ),
  ]);
  const tables = await exec('nft', ['list', 'tables']).then(
    ({ stdout }) => lines(stdout).map((line) => `packet filter ${line}`),
    () => [],
  );
  const directories = marks.filter((mark) => mark.startsWith('/run/') && existsSync(mark));
  return [...directories.map((path) => `directory ${path}`), ...links, ...routes, ...processes, ...tables].sort();
}

/** Returns the lines of `after` that `before` does not contain. */
export function addedLines(before: readonly string[], after: readonly string[]): string[] {
  const rest = [...before];
  return after.filter((line) => {
    const at = rest.indexOf(line);
    if (at < 0) return true;
    rest.splice(at, 1);
    return false;
  });
}
