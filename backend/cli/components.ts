/** The commands that start one component with a shared etcd, for clouds on several machines. */
import { type Command, Option } from 'commander';
import type { Component, Logger } from '../model/component.ts';
import type { Store } from '../store/store.ts';
import { openDataDirectory } from './data-directory.ts';
import { defaultDataDirectory, type HypervisorChoice, layout } from './layout.ts';
import {
  defaultImageListen,
  defaultListen,
  imageListenDescription,
  listenDefault,
  listening,
  parseListen,
  readTls,
  underlayAddressDescription,
} from './listen.ts';
import { logLevelOption } from './log-level.ts';
import { addMailOptions, type MailOptions, readMail } from './mail.ts';
import { runUntilStopped } from './run.ts';
import { warnOfReaders } from './secret-files.ts';
import { readStateKeys } from './state-key.ts';

interface ComponentOptions extends MailOptions {
  readonly store: string;
  readonly logLevel: string;
  readonly data: string;
  readonly name?: string;
  readonly listen?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly providerDirectory?: string;
  readonly stateKey?: string;
  readonly hypervisor: HypervisorChoice;
  readonly files?: string;
  readonly imageListen?: string;
  readonly underlayAddress?: string;
}

type Daemons = typeof import('./daemons.ts');
type Start = (daemons: Daemons, store: Store, logger: Logger, options: ComponentOptions) => Promise<Component>;

const component = (program: Command, name: string, description: string, start: Start): Command =>
  program
    .command(name)
    .description(description)
    .requiredOption('--store <url>', 'the shared database: etcd://host:port[,host:port], etcds:// for TLS')
    .addOption(logLevelOption())
    .action(async (options: ComponentOptions) => {
      const [daemons, { guardFormat }, { createLogger }, { openStore }] = await Promise.all([
        import('./daemons.ts'),
        import('./format-guard.ts'),
        import('./log.ts'),
        import('../store/open.ts'),
      ]);
      const logger = createLogger({ level: options.logLevel });
      if (options.data === undefined) process.umask(0o077);
      else openDataDirectory(options.data, logger);
      warnOfReaders(logger, options);
      await runUntilStopped(logger, async (started, fail) => {
        const store = await openStore(options.store, { logger });
        started(store);
        started(await guardFormat(store, logger, fail));
        started(await start(daemons, store, logger, options));
        logger.info({}, `${name} is up`);
      });
    });

const hypervisorOption = () =>
  new Option('--hypervisor <kind>', 'auto uses qemu if it works on this machine')
    .choices(['auto', 'qemu', 'simulated'])
    .default('auto');
const dataOption = () => new Option('--data <directory>', 'directory of its files').default(defaultDataDirectory());

/** Adds the commands of the components. */
export function addComponents(program: Command): void {
  component(program, 'api', 'run the API', (daemons, store, logger, options) => {
    const tls = readTls(options);
    const address = options.listen ?? defaultListen(tls !== undefined);
    const listen = parseListen(address);
    const { providerDirectory, stateKey, files } = options;
    const stateKeys = stateKey === undefined ? undefined : readStateKeys(stateKey);
    return listening(address, () =>
      daemons.startApiFor(store, logger, {
        listen,
        ...(tls && { tls }),
        ...(providerDirectory !== undefined && { providerDirectory }),
        ...(stateKeys && { stateKeys }),
        ...(files !== undefined && { files }),
      }),
    );
  })
    .option('--listen <address>', `address and port. ${listenDefault}`)
    .option('--tls-cert <file>', 'certificate chain, PEM')
    .option('--tls-key <file>', 'private key of the certificate, PEM')
    .option(
      '--state-key <file>',
      'encryption key of Terraform states, the same for every API server. Without it the API does not serve states',
    )
    .option('--files <directory>', 'directory of a file server for uploads. Without it the API takes no uploads')
    .option(
      '--provider-directory <directory>',
      'Terraform providers to serve as a registry (see docs/provider-registry.md). Default: dist/registry',
    );
  component(program, 'scheduler', 'run the scheduler', (daemons, store, logger) =>
    daemons.startSchedulerFor(store, logger),
  );
  addMailOptions(
    component(program, 'billing', 'make the bills of months that have ended', (daemons, store, logger, options) =>
      daemons.startBillingFor(store, logger, readMail(options)),
    ),
  );
  component(program, 'scanner', 'run the image scanner', (daemons, store, logger, { data, hypervisor, imageListen }) =>
    daemons.startScannerFor(store, logger, {
      data,
      simulated: hypervisor === 'simulated',
      listen: parseListen(imageListen ?? defaultImageListen, '--image-listen'),
    }),
  )
    .addOption(dataOption())
    .addOption(hypervisorOption())
    .option('--image-listen <address>', `${imageListenDescription}. Default: ${defaultImageListen}`);

  component(program, 'file-scanner', 'run the file scanner of this file server', (daemons, store, logger, options) =>
    daemons.startFileScannerFor(store, logger, {
      files: options.files ?? layout(options.data).files,
      name: options.name,
    }),
  )
    .addOption(dataOption())
    .option('--files <directory>', 'directory with one directory of files for each project. Default: files in --data')
    .option('--name <name>', 'name of this file server, always the same. Default: its host name');

  const host = component(
    program,
    'agent',
    'run the agent of this host, with its metadata server',
    async (daemons, store, logger, options) => {
      const { hypervisor, images, why } = await daemons.openHypervisor(options.hypervisor, options.data, logger);
      logger.info({ hypervisor: hypervisor.kind, accelerator: hypervisor.accelerator, why }, 'hypervisor chosen');
      return daemons.startHostWithMetadata({
        store,
        logger,
        data: options.data,
        name: options.name,
        hypervisor,
        images,
        underlayAddress: options.underlayAddress,
      });
    },
  );
  host
    .addOption(dataOption())
    .addOption(hypervisorOption())
    .option('--name <name>', 'name of this host. Default: its host name')
    .option('--underlay-address <address>', underlayAddressDescription);
}
