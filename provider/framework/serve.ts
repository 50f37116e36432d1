/** Runs a provider: as Terraform's child, or waiting for Terraforms that are told where it is. */
import {
  COOKIE_NAME,
  COOKIE_VALUE,
  PLUGIN_PROTOCOL,
  type PluginServer,
  type ProviderMethods,
  servePlugin,
  serveReattached,
} from '../protocol/plugin.ts';
import { createLogger, wantedLevel } from './logger.ts';
import type { AnyProvider } from './server/registry.ts';
import type { Lazy, Logger, ProviderDefinition } from './types.ts';

async function load<Client, Config extends object, Session>(
  provider: Lazy<ProviderDefinition<Client, Config, Session>>,
) {
  return typeof provider === 'function' ? await provider() : provider;
}

export interface ServeOptions {
  /**
   * The answer to `GetProviderSchema`, as `encodeSchema` makes it: for a provider that is built from sources, and so knows
   * it by then. Terraform starts a provider to ask for nothing else.
   */
  readonly schema?: Uint8Array | undefined;
}

/** The server of a connection. It loads everything except the schema at the first call that needs it. */
function methodsFor<Client, Config extends object, Session>(
  provider: Lazy<ProviderDefinition<Client, Config, Session>>,
  log: Logger,
  { schema }: ServeOptions = {},
) {
  const prepare = async () => {
    const [{ providerMethods }, { Registry }, { Session }, definition] = await Promise.all([
      import('./server/methods.ts'),
      import('./server/registry.ts'),
      import('./server/session.ts'),
      load(provider),
    ]);
    const registry = new Registry(definition as unknown as AnyProvider);
    return () => providerMethods(new Session(registry, log));
  };
  let prepared: ReturnType<typeof prepare> | undefined;
  return (): ProviderMethods => {
    let methods: Promise<ProviderMethods['unary']> | undefined;
    const more = () => {
      prepared ??= prepare();
      methods ??= prepared.then((make) => make());
      return methods;
    };
    return { unary: { ...(schema && { '/tfplugin6.Provider/GetProviderSchema': async () => schema }) }, more };
  };
}

/** The answer to `GetProviderSchema`. */
export async function encodeSchema<Client, Config extends object, Session>(
  provider: ProviderDefinition<Client, Config, Session>,
): Promise<Uint8Array> {
  const { more } = methodsFor(
    provider,
    createLogger(provider.name, undefined, () => {}),
  )();
  const answer = (await more?.())?.['/tfplugin6.Provider/GetProviderSchema'];
  if (!answer) throw new Error('a provider that does not tell its schema');
  return answer(new Uint8Array(), new AbortController().signal);
}

/**
 * The main function of a provider's executable.
 *
 * Started by Terraform, it serves until Terraform is done. Started by hand, it explains itself and fails. Started with
 * `--debug`, it prints how to make Terraform use this very process, for instance under a debugger.
 *
 * A provider given as `() => import(…)` is loaded when it is first needed.
 */
export async function serve<Client, Config extends object, Session>(
  provider: Lazy<ProviderDefinition<Client, Config, Session>>,
  options: ServeOptions = {},
): Promise<void> {
  const { env } = process;
  const log = createLogger('provider', wantedLevel(env), (line) => process.stderr.write(line));
  const onError = (error: Error) => log.warn('connection failed', { error: error.message });
  // When Terraform was killed nobody reads any more. An error of writing that is nobody's would be logged, which fails again.
  for (const output of [process.stdout, process.stderr]) output.on('error', () => {});
  // A rejected promise that nobody awaits must not take the provider down in the middle of an apply.
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error: String(error) }));
  process.on('uncaughtException', (error) => log.error('uncaught exception', { error: error.stack ?? error.message }));

  if (process.argv.includes('--debug')) {
    const server = await serveReattached({ connect: methodsFor(provider, log), environment: env, onError });
    process.stdout.write(
      'The provider is waiting for Terraform. Set this in another shell and run terraform there (no init needed):\n\n' +
        `export TF_REATTACH_PROVIDERS='${reattachJson((await load(provider)).address, server.socketPath)}'\n\nCtrl-C ends it.\n`,
    );
    await new Promise<void>((resolve) => {
      process.once('SIGINT', () => resolve());
      process.once('SIGTERM', () => resolve());
    });
    await server.close();
    return;
  }
  if (env[COOKIE_NAME] !== COOKIE_VALUE) {
    const { address, version } = await load(provider);
    process.stderr.write(
      `This is the Terraform provider ${address} ${version}, a plugin: Terraform starts it by itself.\n` +
        'Use it in a configuration with required_providers, or run it with --debug to attach Terraform by hand.\n',
    );
    process.exitCode = 1;
    return;
  }
  // Ctrl-C goes to the whole process group. Terraform tells the provider what to do by StopProvider.
  process.on('SIGINT', () => log.info('interrupt left to Terraform'));
  const connect = methodsFor(provider, log, options);
  let server: PluginServer;
  try {
    server = await servePlugin({ connect, environment: env, onError });
  } catch (error) {
    // Until the handshake, Terraform shows its user nothing but a line on standard output that it does not understand.
    process.stdout.write(`The provider can not start: ${String(error)}\n`, () => process.exit(1));
    return;
  }
  process.on('SIGTERM', () => server.close());
  process.stdout.write(`${server.line}\n`);
  await server.closed;
  // Whatever a client library keeps open is of no use any more.
  process.exit(0);
}

/** The value of `TF_REATTACH_PROVIDERS` for a provider that listens on a socket of this process. */
function reattachJson(address: string, socketPath: string): string {
  return JSON.stringify({
    [address]: {
      Protocol: 'grpc',
      ProtocolVersion: PLUGIN_PROTOCOL,
      Pid: process.pid,
      Test: true,
      Addr: { Network: 'unix', String: socketPath },
    },
  });
}

export interface Reattached {
  /** Set this as `TF_REATTACH_PROVIDERS` for Terraform. */
  readonly environmentValue: string;
  readonly socketPath: string;
  close(): Promise<void>;
}

/**
 * Serves a provider within this process, for acceptance tests: no child process, four times as fast, and the test can
 * look at whatever the provider talks to. Log lines go to `log`, none by default.
 */
export async function reattach<Client, Config extends object, Session>(
  provider: ProviderDefinition<Client, Config, Session>,
  log: (line: string) => void = () => {},
): Promise<Reattached> {
  const logger = createLogger(provider.name, 'debug', log);
  const server = await serveReattached({
    connect: methodsFor(provider, logger),
    environment: process.env,
    onError: (error) => logger.warn('connection failed', { error: error.message }),
  });
  return {
    environmentValue: reattachJson(provider.address, server.socketPath),
    socketPath: server.socketPath,
    close: () => server.close(),
  };
}
