/**
 * The QEMU driver, or only its networks, in its own process, which can run in a network namespace and can be killed. The
 * process answers { id, method, args } over IPC with { id, result } or { id, error }, and sends { exit } when a VM has ended.
 * With `dieAfter`, the process kills itself after that number of changes to the machine; with `dieBefore`, before that
 * command to QEMU.
 */

import { createQemuHypervisor } from '../../backend/host/hypervisor/qemu/open.ts';
import { Qmp } from '../../backend/host/hypervisor/qemu/qmp.ts';
import { ImageFiles } from '../../backend/host/images/image-files.ts';
import { HostNetwork } from '../../backend/host/network/host-network.ts';
import { type Run, run } from '../../backend/host/system/command.ts';
import { instanceOf } from '../../backend/host/system/instance.ts';
import type { HostDriverOptions } from './driven-host.ts';
import { silentLogger } from './silent-logger.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as HostDriverOptions;

let changes = 0;
const changed = async () => {
  changes++;
  if (changes === options.dieAfter) process.kill(process.pid, 'SIGKILL');
};

const { execute } = Qmp.prototype;
Qmp.prototype.execute = function (command, ...rest) {
  if (command === options.dieBefore) process.kill(process.pid, 'SIGKILL');
  return execute.call(this, command, ...rest);
};

/** The commands since the last call of `takeCommands`, each as one line. */
const commands: string[] = [];
const takeCommands = () => commands.splice(0);

const filters = () => run('nft', ['-s', 'list', 'ruleset']);

/** Calls back after each change of the machine. The lines of a batch run separately, so a crash can occur between them. */
const watched =
  (changed: () => Promise<unknown>): Run =>
  async (program, args, input) => {
    commands.push([program, ...args].join(' '));
    if (args.includes('-batch') && !args.includes('-j')) {
      let failed: unknown;
      for (const line of (input ?? '').split('\n').filter(Boolean)) {
        try {
          await run(program, args, `${line}\n`);
        } catch (error) {
          // With -force, the program goes on after a line that fails.
          failed ??= error;
        }
        await changed();
      }
      if (failed !== undefined) throw failed;
      return '';
    }
    const applies = program === 'nft' && args.includes('-f');
    const before = applies && (await filters());
    const output = await run(program, args, input);
    // Setting the same rules again is no change. A disk under a temporary name is no change, either.
    if (applies && before !== (await filters())) await changed();
    return output;
  };

type Methods = Record<string, (...args: never[]) => unknown>;
type Call = readonly [method: string, ...args: never[]];

const openNetwork = (run: Run): Promise<HostNetwork> => {
  const { dataDir } = options;
  return HostNetwork.open({ directory: `${dataDir}/network`, instance: instanceOf(dataDir), run });
};

/**
 * Runs the calls, but stops for ever after the first change, like a killed process. A successor that knows only the state of
 * the machine continues, until one reaches the end. Returns the number of stopped runs.
 */
async function crashAfterEveryChange(...calls: readonly Call[]): Promise<number> {
  for (let lost = 0; lost < 200; lost++) {
    const crash = Promise.withResolvers<'crashed'>();
    const run = watched(() => {
      crash.resolve('crashed');
      return new Promise<never>(() => undefined);
    });
    const work = async () => {
      const network = (await openNetwork(run)) as unknown as Methods;
      for (const [method, ...args] of calls) await network[method]?.(...args);
    };
    if ((await Promise.race([work(), crash.promise])) !== 'crashed') return lost;
  }
  throw new Error('it does not converge');
}

async function openPart(): Promise<object> {
  const { dataDir } = options;
  if (options.part === 'network') {
    return Object.assign(await openNetwork(watched(changed)), { crashAfterEveryChange, takeCommands });
  }
  const imageStore = options.imageStore ?? dataDir;
  const driver = await createQemuHypervisor({
    dataDir,
    images: new ImageFiles(imageStore),
    logger: silentLogger,
    accelerator: 'tcg',
    run: watched(changed),
  });
  driver.onExit((vm, cause) => process.send?.({ exit: { vm, cause } }));
  return driver;
}

const part = (await openPart().catch((error: unknown) => {
  process.send?.({ failed: String(error) });
  return {};
})) as Methods;
/** Returns the result without maps and errors, which IPC does not send. */
const plain = (value: unknown): unknown => {
  if (value instanceof Map) return [...value].map(([key, each]) => [key, plain(each)]);
  if (value instanceof Error) return value.message;
  if (value instanceof Date) return value.toISOString();
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
};
const withSignal = new Set(['prepare', 'start', 'fillVolume', 'createSnapshot', 'restoreDisks']);
process.on('message', async ({ id, method, args }: { id: number; method: string; args: never[] }) => {
  try {
    const signal = withSignal.has(method) ? [new AbortController().signal as never] : [];
    // IPC sends null for undefined.
    const given = args.map((each) => (each ?? undefined) as never);
    const result = await part[method]?.(...given, ...signal);
    process.send?.({ id, result: plain(result) });
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? `${error.message}; ${error.cause ?? ''}` : String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
process.send?.({ ready: true });
