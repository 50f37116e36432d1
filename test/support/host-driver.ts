/**
 * The QEMU driver, or only its networks, in a process of its own: so that it can be put into a network namespace and
 * be killed. Speaks by IPC: { id, method, args } is answered with { id, result } or { id, error }; tells { exit } when
 * a VM ended. With `dieAfter`, the process kills itself as soon as it has changed the machine that many times; with
 * `dieBefore`, when it is about to give QEMU that command.
 */
import { createQemuHypervisor } from '../../backend/host/hypervisor/qemu/driver.ts';
import { Qmp } from '../../backend/host/hypervisor/qemu/qmp.ts';
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

const filters = () => run('nft', ['-s', 'list', 'ruleset']);

/** Calls back after everything that changes the machine. A batch is taken apart: a crash may come between any two lines. */
const watched =
  (changed: () => Promise<unknown>): Run =>
  async (program, args, input) => {
    if (args.includes('-batch') && !args.includes('-j')) {
      for (const line of (input ?? '').split('\n').filter(Boolean)) {
        await run(program, args, `${line}\n`);
        await changed();
      }
      return '';
    }
    const applies = program === 'nft' && args.includes('-f');
    const before = applies && (await filters());
    const output = await run(program, args, input);
    // The same rules set again are no change; nor is a disk that is not yet in its place.
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
 * Does the calls, but everything stands still for ever after the first change, as if the process were killed there; a
 * successor that knows only what is on the machine takes over, until one comes to the end. Gives how many were lost.
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
    return Object.assign(await openNetwork(watched(changed)), { crashAfterEveryChange });
  }
  const imageStore = options.imageStore ?? dataDir;
  const driver = await createQemuHypervisor({
    dataDir,
    imageStore,
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
const withSignal = new Set(['prepare', 'start']);
process.on('message', async ({ id, method, args }: { id: number; method: string; args: never[] }) => {
  try {
    const signal = withSignal.has(method) ? [new AbortController().signal as never] : [];
    const result = await part[method]?.(...args, ...signal);
    process.send?.({ id, result: result instanceof Map ? [...result] : result });
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? `${error.message}; ${error.cause ?? ''}` : String(error) });
  }
});
process.on('disconnect', () => process.exit(0));
process.send?.({ ready: true });
