/** Runs a provider: as a child process of Terraform, or as a server for Terraform processes that know its address. */
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
   * The answer to `GetProviderSchema` from `encodeSchema`, if the build has computed it. Terraform often starts a provider
   * only for this call, which then needs no further code.
   */
  readonly schema?: Uint8Array | undefined;
}

/** Returns the methods of a connection. They load everything except the schema at the first call that needs it. */
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

/** Returns the answer to `GetProviderSchema`. @throws Error for a provider with an invalid definition */
export async function encodeSchema<Client, Config extends object, Session>(
  provider: ProviderDefinition<Client, Config, Session>,
): Promise<Uint8Array> {
  const { more } = methodsFor(
    provider,
    createLogger(provider.name, undefined, () => {}),
  )();
  const answer = (await more?.())?.['/tfplugin6.Provider/GetProviderSchema'];
  if (!answer) throw new Error('the provider has no schema');
  return answer(new Uint8Array(), new AbortController().signal);
}

/**
 * The main function of a provider's executable.
 *
 * If Terraform starts the executable, it serves until Terraform ends. If a user starts it, it prints an explanation and
 * fails. With `--debug`, it prints how Terraform can use this process, for instance under a debugger.
 *
 * A provider in the form `() => import(…)` is loaded at its first use.
 */
export async function serve<Client, Config extends object, Session>(
  provider: Lazy<ProviderDefinition<Client, Config, Session>>,
  options: ServeOptions = {},
): Promise<void> {
  const { env } = process;
  const log = createLogger('provider', wantedLevel(env), (line) => process.stderr.write(line));
  const onError = (error: Error) => log.warn('connection failed', { error: error.message });
  // After a killed Terraform, writes fail. Without this handler, the provider would log the error, which fails again.
  for (const output of [process.stdout, process.stderr]) output.on('error', () => {});
  // A rejected promise without a handler must not end the provider during an apply.
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error: String(error) }));
  process.on('uncaughtException', (error) => log.error('uncaught exception', { error: error.stack ?? error.message }));

  if (process.argv.includes('--debug')) {
    const server = await serveReattached({ connect: methodsFor(provider, log), environment: env, onError });
    process.stdout.write(
      'The provider waits for Terraform. Set this variable in another shell and run terraform there, without init:\n\n' +
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
      `This is the Terraform provider ${address} ${version}, a plugin that Terraform starts by itself.\n` +
        'Use it in a configuration with required_providers, or run it with --debug to attach Terraform by hand.\n',
    );
    process.exitCode = 1;
    return;
  }
  // Ctrl-C signals the whole process group. The provider reacts only to Terraform's call StopProvider.
  process.on('SIGINT', () => log.info('interrupt left to Terraform'));
  const connect = methodsFor(provider, log, options);
  let server: PluginServer;
  try {
    server = await servePlugin({ connect, environment: env, onError });
  } catch (error) {
    // Before the handshake, Terraform shows its user only a line on standard output that is no handshake.
    process.stdout.write(`The provider cannot start: ${String(error)}\n`, () => process.exit(1));
    return;
  }
  process.on('SIGTERM', () => server.close());
  process.stdout.write(`${server.line}\n`);
  await server.closed;
  // A client library may still have open connections, which would keep the process alive.
  process.exit(0);
}

/** Returns the value of `TF_REATTACH_PROVIDERS` for a provider that listens on a socket of this process. */
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
  /** The value of `TF_REATTACH_PROVIDERS` for Terraform. */
  readonly environmentValue: string;
  readonly socketPath: string;
  close(): Promise<void>;
}

/**
 * Serves a provider in this process, for acceptance tests. Without a child process, Terraform runs four times as fast, and
 * the test has access to the API behind the provider. `log` gets the log lines; by default they are dropped.
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
