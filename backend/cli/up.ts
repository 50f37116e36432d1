/** `ucloud up`: all components in one process. With the embedded store it needs no other server. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { makePrivate } from '../store/private-files.ts';
import { credentialsPath, writeCredentials } from './credentials.ts';
import { openDataDirectory } from './data-directory.ts';
import { defaultDataDirectory, type HypervisorChoice, layout } from './layout.ts';
import {
  defaultImageListen,
  defaultListen,
  imageListenDescription,
  type Listen,
  listenDefault,
  listening,
  parseListen,
  readTls,
  underlayAddressDescription,
} from './listen.ts';
import { logLevelOption } from './log-level.ts';
import { addMailOptions, type MailOptions, readMail } from './mail.ts';
import { makeDirectory } from './make-directory.ts';
import { runUntilStopped } from './run.ts';
import { warnOfReaders } from './secret-files.ts';
import { ensureStateKeys, readStateKeys } from './state-key.ts';

interface UpOptions extends MailOptions {
  readonly data: string;
  readonly store?: string;
  readonly listen?: string;
  readonly hypervisor: HypervisorChoice;
  readonly name?: string;
  readonly underlayAddress?: string;
  readonly credentials?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly providerDirectory?: string;
  readonly stateKey?: string;
  readonly imageListen?: string;
  readonly logLevel: string;
}

/** Returns the address of the image server. Only a store in etcd can have hosts on other machines. */
function imageAddress({ store, imageListen }: UpOptions): Listen {
  const isShared = store !== undefined && /^etcds?:/.test(store);
  return parseListen(imageListen ?? (isShared ? defaultImageListen : '[::1]:0'), '--image-listen');
}

/** Returns an address that clients on this machine can use. */
const clientUrl = (url: string): string => url.replace('//[::]:', '//[::1]:').replace('//0.0.0.0:', '//127.0.0.1:');

async function up(options: UpOptions): Promise<void> {
  // These modules are loaded here, so that commands for the API start fast.
  const [daemons, { guardFormat }, { createLogger }, { ensureOperatorToken, ensureProject }, { openStore }] =
    await Promise.all([
      import('./daemons.ts'),
      import('./format-guard.ts'),
      import('./log.ts'),
      import('../api/tokens/first-operator-token.ts'),
      import('../store/open.ts'),
    ]);
  const logger = createLogger({ level: options.logLevel });
  warnOfReaders(logger, options);
  const tls = readTls(options);
  const address = options.listen ?? defaultListen(tls !== undefined);
  const listen = parseListen(address);
  const imageListen = imageAddress(options);
  const smtp = readMail(options);
  const credentials = options.credentials ?? credentialsPath();
  openDataDirectory(options.data, logger);
  makeDirectory(dirname(credentials), 0o700);
  if (existsSync(credentials) && makePrivate(credentials))
    logger.warn({ path: credentials }, 'other users could read the credentials; they can no longer');

  const stateKeys = options.stateKey ? readStateKeys(options.stateKey) : ensureStateKeys(layout(options.data).stateKey);

  await runUntilStopped(logger, async (started, fail) => {
    const store = await openStore(options.store ?? layout(options.data).store, { logger });
    started(store);
    started(await guardFormat(store, logger, fail));
    const project = await ensureProject(store, 'default');
    const { hypervisor, images, why } = await daemons.openHypervisor(options.hypervisor, options.data, logger);
    logger.info({ hypervisor: hypervisor.kind, accelerator: hypervisor.accelerator, why }, 'hypervisor chosen');

    const { providerDirectory } = options;
    const api = await listening(address, () =>
      daemons.startApiFor(store, logger, {
        listen,
        stateKeys,
        files: layout(options.data).files,
        ...(tls && { tls }),
        ...(providerDirectory !== undefined && { providerDirectory }),
      }),
    );
    started(api);
    const token = await ensureOperatorToken(store);
    if (token) {
      // The token is printed before the file is written, so a failed write does not lose it.
      console.log(`First operator token, shown this once (also in ${credentials}):\n  ${token.secret}`);
      const kept = writeCredentials(credentials, { endpoint: clientUrl(api.url), token: token.secret, project });
      if (kept) console.log(`The credentials that were in ${credentials} are now in ${kept}`);
    }
    started(await daemons.startSchedulerFor(store, logger));
    started(await daemons.startBillingFor(store, logger, smtp));
    const simulated = hypervisor.kind === 'simulated';
    started(await daemons.startScannerFor(store, logger, { data: options.data, simulated, listen: imageListen }));
    const { files } = layout(options.data);
    started(await daemons.startFileScannerFor(store, logger, { files, name: options.name }));
    const { data, name, underlayAddress } = options;
    started(await daemons.startHostWithMetadata({ store, logger, data, name, hypervisor, images, underlayAddress }));
    console.log(
      `ucloud is up: ${clientUrl(api.url)} (${hypervisor.kind}, ${hypervisor.accelerator}), documentation at ${clientUrl(api.url)}/docs`,
    );
  });
}

/** Adds `ucloud up`. */
export function addUp(program: Command): void {
  const command = program.command('up').description('run every component in this process');
  addMailOptions(command)
    .option('--data <directory>', 'directory of all files', defaultDataDirectory())
    .option(
      '--store <url>',
      'embedded:<path>, or etcd://host:port[,host:port] (etcds:// for TLS). Default: embedded, in the data directory',
    )
    .option('--listen <address>', `address and port of the API. ${listenDefault}`)
    .addOption(
      new Option('--hypervisor <kind>', 'auto uses qemu if it works on this machine')
        .choices(['auto', 'qemu', 'simulated'])
        .default('auto'),
    )
    .option(
      '--image-listen <address>',
      `${imageListenDescription}. Default: ${defaultImageListen} with etcd, else any port of [::1]`,
    )
    .option('--name <name>', 'name of this host. Default: its host name')
    .option('--underlay-address <address>', underlayAddressDescription)
    .option('--credentials <file>', 'file for the first operator token')
    .option('--tls-cert <file>', 'certificate chain of the API, PEM')
    .option('--tls-key <file>', 'private key of the certificate, PEM')
    .option(
      '--state-key <file>',
      'encryption key of Terraform states. Default: a file in the data directory, created at the first start',
    )
    .option(
      '--provider-directory <directory>',
      'Terraform providers to serve as a registry (see docs/provider-registry.md). Default: dist/registry',
    )
    .addOption(logLevelOption())
    .action(up);
}
