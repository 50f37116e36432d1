/**
 * The start of the components: `ucloud up` starts all in one process, and a sub-command starts one with a shared etcd.
 * Components communicate only through the store, so both use the same code.
 */
import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { startApi } from '../api/start.ts';
import type { StateKeys } from '../api/terraform-state/keys.ts';
import { createSmtpSender, type SmtpSettings } from '../billing/mail/smtp.ts';
import { startBilling } from '../billing/start.ts';
import { startFileScanner } from '../filescanner/start.ts';
import { Bird } from '../host/bgp/bird.ts';
import type { Hypervisor } from '../host/hypervisor/hypervisor.ts';
import { checkQemu, createQemuHypervisor } from '../host/hypervisor/qemu/open.ts';
import { createSimulatedHypervisor } from '../host/hypervisor/simulated.ts';
import { ImageFiles } from '../host/images/image-files.ts';
import { findUnderlay } from '../host/network/underlay.ts';
import { startHost } from '../host/start.ts';
import { run } from '../host/system/command.ts';
import { isMissing } from '../host/system/files.ts';
import { birdDirectory, instanceOf } from '../host/system/instance.ts';
import { startMetadata } from '../metadata/start.ts';
import type { Component, Logger } from '../model/component.ts';
import { startImageScanner } from '../scanner/images.ts';
import { startScheduler } from '../scheduler/start.ts';
import type { Store } from '../store/store.ts';
import { type HypervisorChoice, layout, packagedProviders } from './layout.ts';
import { isOnlyHere, type Listen } from './listen.ts';
import { makeDirectory } from './make-directory.ts';
import { version } from './version.ts';

const noDirectory = (error: unknown): string[] => {
  if (isMissing(error)) return [];
  throw error;
};

/** Tells whether the host has VMs of QEMU. @throws Error if their directory cannot be read */
const hasVms = async (host: string): Promise<boolean> =>
  (await readdir(join(host, 'vms')).catch(noDirectory)).length > 0;

/** Returns the hypervisor of a host. @throws Error that names the missing parts of the machine */
export async function openHypervisor(
  choice: HypervisorChoice,
  data: string,
  logger: Logger,
): Promise<{ hypervisor: Hypervisor; images?: ImageFiles; why: string }> {
  const { host, images: imageStore, imageCopies } = layout(data);
  makeDirectory(host);
  const missing = choice === 'simulated' ? [] : await checkQemu();
  if (choice === 'qemu' && missing.length > 0) {
    throw new Error(
      `--hypervisor qemu does not work on this machine:\n${missing.map((line) => `  ${line}`).join('\n')}`,
    );
  }
  if (choice === 'auto' && missing.length > 0 && (await hasVms(host))) {
    throw new Error(
      `This host has VMs of QEMU, which simulated VMs must not replace. QEMU cannot be used:\n${missing.map((line) => `  ${line}`).join('\n')}`,
    );
  }
  if (choice === 'simulated' || missing.length > 0) {
    const why = choice === 'simulated' ? 'as asked' : `QEMU cannot be used: ${missing.join('; ')}`;
    const capacity = { cpus: 256, memory: 1024 ** 4, disk: 100 * 1024 ** 4 };
    return { hypervisor: await createSimulatedHypervisor({ dataDir: host, capacity }), why };
  }
  const images = new ImageFiles(imageStore, imageCopies);
  return {
    hypervisor: await createQemuHypervisor({ dataDir: host, images, logger }),
    images,
    why: 'QEMU works here',
  };
}

/** Returns the control of the host's bird, for `ucloud host clean`. */
export const openBird = (data: string): Bird =>
  new Bird({ directory: birdDirectory(instanceOf(layout(data).host)), run });

/** The options of a host. */
export interface HostOptions {
  readonly store: Store;
  readonly logger: Logger;
  readonly data: string;
  readonly name?: string;
  readonly hypervisor: Hypervisor;
  /** The files of images. Simulated VMs need none. */
  readonly images?: ImageFiles | undefined;
  /** The address of this host in the underlay. Without it, networks end at this host. */
  readonly underlayAddress?: string | undefined;
}

/** Starts the agent of a host. A real hypervisor also gets the metadata server of its guests. */
export async function startHostWithMetadata(options: HostOptions): Promise<Component & { readonly id: string }> {
  const { store, logger, data, hypervisor, images, underlayAddress } = options;
  const underlay = underlayAddress === undefined ? undefined : await findUnderlay(run, underlayAddress);
  const host = await startHost({
    store,
    logger: logger.child({ component: 'host' }),
    hypervisor,
    dataDir: layout(data).host,
    name: options.name ?? hostname(),
    version,
    ...(images && { images: { files: images } }),
    underlay,
  });
  const close = async (metadata?: Component) => {
    await metadata?.close();
    await host.close();
    await hypervisor.close();
  };
  if (hypervisor.kind === 'simulated') return { id: host.id, close: () => close() };
  try {
    const metadata = await startMetadata({ store, logger: logger.child({ component: 'metadata' }), hostId: host.id });
    return { id: host.id, close: () => close(metadata) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The settings of an image scanner. */
export interface ScannerSettings {
  readonly data: string;
  readonly simulated: boolean;
  /** The address at which hosts fetch images. */
  readonly listen?: Listen | undefined;
}

/** Starts the image scanner. */
export const startScannerFor = (
  store: Store,
  logger: Logger,
  { data, simulated, listen }: ScannerSettings,
): Promise<Component> => {
  const { files, images } = layout(data);
  for (const directory of [files, images]) makeDirectory(directory);
  return startImageScanner({
    store,
    logger: logger.child({ component: 'scanner' }),
    filesDir: files,
    imageStore: images,
    ...(listen && { listen }),
    ...(simulated && { mode: 'simulated' as const }),
  });
};

/** Starts the file scanner of the file server whose directory is `files`. Its name is by default that of the machine. */
export const startFileScannerFor = (
  store: Store,
  logger: Logger,
  { files, name = hostname() }: { readonly files: string; readonly name?: string | undefined },
): Promise<Component> =>
  startFileScanner({ store, logger: logger.child({ component: 'file-scanner' }), root: files, name });

/** Starts the scheduler. */
export const startSchedulerFor = (store: Store, logger: Logger): Promise<Component> =>
  startScheduler({ store, logger: logger.child({ component: 'scheduler' }) });

/** Starts the billing component. */
export const startBillingFor = (store: Store, logger: Logger, smtp: SmtpSettings | undefined): Promise<Component> =>
  startBilling({
    ...{ store, logger: logger.child({ component: 'billing' }) },
    ...(smtp && { mails: createSmtpSender(smtp) }),
  });

/** The settings of an API server. */
export interface ApiSettings {
  readonly listen: Listen;
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The keys of Terraform states. Without them the API does not serve states. */
  readonly stateKeys?: StateKeys;
  /**
   * The directory of provider packages. If the operator gives it, it must exist; otherwise it is the output of
   * packaging.
   */
  readonly providerDirectory?: string;
  /** The directory of the file server for uploads. */
  readonly files?: string;
}

/** Starts an API server. */
export const startApiFor = async (store: Store, logger: Logger, settings: ApiSettings) => {
  const { listen, tls, stateKeys, files, providerDirectory = packagedProviders } = settings;
  if (
    settings.providerDirectory !== undefined &&
    !statSync(providerDirectory, { throwIfNoEntry: false })?.isDirectory()
  ) {
    throw new Error(`--provider-directory: "${providerDirectory}" is not a directory`);
  }
  const log = logger.child({ component: 'api' });
  if (!tls && !isOnlyHere(listen)) {
    log.warn({ listen }, 'without TLS, tokens are sent in clear text; set --tls-cert and --tls-key');
  }
  return startApi({
    store,
    logger: log,
    listen,
    providerDirectory,
    ...(tls && { tls }),
    ...(stateKeys && { stateKeys }),
    ...(files !== undefined && { filesDir: files }),
  });
};
