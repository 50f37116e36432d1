/**
 * The catalogue of the provider packages in a directory:
 *
 *     providers/<namespace>/<type>/          packages of this registry, from `npm run package:provider`
 *     mirror/<host>/<namespace>/<type>/      packages of other registries, from `terraform providers mirror`
 *
 * A request never becomes a path. The catalogue contains the files with harmless names, and requests find only these.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  isProviderHost,
  isProviderWord,
  isVersion,
  parseChecksums,
  parsePackageName,
} from '../../model/terraform/provider-packages.ts';

/** One archive of a provider. */
export interface Archive {
  readonly os: string;
  readonly arch: string;
  readonly file: string;
  /** The SHA-256 of the archive in hexadecimal, if a list of checksums contains it. */
  readonly sha256: string | undefined;
  /** The published checksums in Terraform's notation (`zh:…` or `h1:…`), as opposed to computed ones. */
  readonly hashes: readonly string[];
}

/** One version of a provider. */
export interface Release {
  readonly version: string;
  readonly archives: readonly Archive[];
  /** The signature; undefined if it or another requirement of a registry is missing. */
  readonly signed:
    | { readonly sums: string; readonly signature: string; readonly protocols: readonly string[] }
    | undefined;
}

/** The public key that signs the versions of a namespace. */
export interface SigningKey {
  /** The last 16 hexadecimal digits of the fingerprint. */
  readonly id: string;
  readonly armor: string;
}

/** A provider with its versions. */
export interface Provider {
  readonly releases: ReadonlyMap<string, Release>;
  readonly keys: readonly SigningKey[];
  /** The path of each file that may be downloaded, by its name. */
  readonly files: ReadonlyMap<string, string>;
}

/** The packages of a directory. */
export interface Catalogue {
  /** The providers of this registry, by `<namespace>/<type>`. */
  readonly own: ReadonlyMap<string, Provider>;
  /** The providers of other registries, by `<host>/<namespace>/<type>`. */
  readonly mirrored: ReadonlyMap<string, Provider>;
  /** The files that are not offered, with the reasons, for the operator. */
  readonly problems: readonly string[];
}

/** The maximum bytes of a text file: a list of checksums, a manifest or a key. */
const maxText = 1024 * 1024;

type Report = (problem: string) => void;

/** Returns the result of the read; undefined if the file is missing or unreadable. The latter is reported. */
async function attempt<T>(path: string, report: Report, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') report(`${path} cannot be read: ${message}`);
    return undefined;
  }
}

/** Returns the names in a directory without the hidden ones. */
async function namesIn(directory: string, report: Report): Promise<string[]> {
  const names = (await attempt(directory, report, () => readdir(directory))) ?? [];
  return names.filter((name) => !name.startsWith('.')).sort();
}

/** Returns the text of a file; undefined also if the file is too large. */
const textOf = (path: string, report: Report): Promise<string | undefined> =>
  attempt(path, report, async () => {
    const { size } = await stat(path);
    return size > maxText ? undefined : readFile(path, 'utf8');
  });

function parsed(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;

/** Returns the `protocol_versions` of a manifest; undefined if it is not a manifest. */
function protocolsOf(manifest: unknown): string[] | undefined {
  const versions = fieldOf(fieldOf(manifest, 'metadata'), 'protocol_versions');
  if (!Array.isArray(versions) || versions.length === 0) return undefined;
  return versions.every((item): item is string => typeof item === 'string' && /^\d+\.\d+$/.test(item))
    ? versions
    : undefined;
}

/** Returns the hashes that `terraform providers mirror` wrote into `<version>.json`. */
function mirroredHashes(index: unknown, platform: string): string[] {
  const hashes = fieldOf(fieldOf(fieldOf(index, 'archives'), platform), 'hashes');
  if (!Array.isArray(hashes)) return [];
  return hashes.filter((hash): hash is string => typeof hash === 'string' && /^(h1|zh):[\w+/=]+$/.test(hash));
}

/** Reads one version: the archives that the list of checksums, if there is one, contains. */
async function readRelease(
  directory: string,
  type: string,
  version: string,
  { names, hasKeys }: { names: ReadonlySet<string>; hasKeys: boolean },
  report: Report,
): Promise<Release> {
  const prefix = `terraform-provider-${type}_${version}`;
  const sumsFile = `${prefix}_SHA256SUMS`;
  const hasSums = names.has(sumsFile);
  const sums = hasSums ? parseChecksums((await textOf(join(directory, sumsFile), report)) ?? '?') : undefined;
  if (hasSums && !sums) report(`${sumsFile} is not a list of checksums`);
  const index = names.has(`${version}.json`)
    ? parsed(await textOf(join(directory, `${version}.json`), report))
    : undefined;

  const archives = [...names].flatMap((file): Archive[] => {
    const name = parsePackageName(file);
    if (name?.type !== type || name.version !== version) return [];
    const { os, arch } = name;
    const sha256 = sums?.get(file);
    if (hasSums && sha256 === undefined) {
      report(`${file} is not offered: ${sumsFile} does not list it`);
      return [];
    }
    const hashes = sha256 === undefined ? mirroredHashes(index, `${os}_${arch}`) : [`zh:${sha256}`];
    return [{ os, arch, file, sha256, hashes }];
  });

  const signature = `${sumsFile}.sig`;
  const manifest = `${prefix}_manifest.json`;
  const protocols = names.has(manifest)
    ? protocolsOf(parsed(await textOf(join(directory, manifest), report)))
    : undefined;
  const complete = sums !== undefined && names.has(signature) && hasKeys && protocols !== undefined;
  return { version, archives, signed: complete ? { sums: sumsFile, signature, protocols } : undefined };
}

async function readProvider(directory: string, type: string, report: Report): Promise<Provider> {
  const names = new Set(await namesIn(directory, report));
  const keys: SigningKey[] = [];
  const versions = new Set<string>();
  for (const name of names) {
    const version = parsePackageName(name);
    if (version?.type === type && isVersion(version.version)) versions.add(version.version);
    else if (name.endsWith('.zip'))
      report(`${join(directory, name)} is not offered: its name must be that of a package of ${type}`);
    const fingerprint = /^([0-9A-F]{16,64})\.asc$/.exec(name)?.[1];
    if (fingerprint !== undefined) {
      const armor = await textOf(join(directory, name), report);
      if (armor?.includes('-----BEGIN PGP PUBLIC KEY BLOCK-----')) keys.push({ id: fingerprint.slice(-16), armor });
      else report(`${join(directory, name)} is not an armoured public key`);
    } else if (name.endsWith('.asc')) {
      report(
        `${join(directory, name)} is not used: its name must be the fingerprint in upper case, such as 0123…CDEF.asc`,
      );
    }
  }
  const releases = new Map<string, Release>();
  const files = new Map<string, string>();
  for (const version of versions) {
    const release = await readRelease(directory, type, version, { names, hasKeys: keys.length > 0 }, (problem) =>
      report(`${directory}: ${problem}`),
    );
    if (release.archives.length === 0) continue;
    releases.set(version, release);
    const offered = release.archives.map(({ file }) => file);
    if (release.signed) offered.push(release.signed.sums, release.signed.signature);
    for (const file of offered) files.set(file, join(directory, file));
  }
  return { releases, keys, files };
}

/** Reads the directory. Unusable files are named in `problems`. */
export async function readCatalogue(root: string): Promise<Catalogue> {
  const problems: string[] = [];
  const report = (problem: string) => problems.push(problem);
  const own = new Map<string, Provider>();
  const mirrored = new Map<string, Provider>();

  const walk = async (directory: string, address: string, into: Map<string, Provider>) => {
    for (const namespace of await namesIn(directory, report)) {
      for (const type of await namesIn(join(directory, namespace), report)) {
        const path = join(directory, namespace, type);
        if (!isProviderWord(namespace) || !isProviderWord(type)) {
          report(`${path} is not offered: its path must be a namespace and a type in lower case`);
          continue;
        }
        const provider = await readProvider(path, type, report);
        if (provider.releases.size > 0) into.set(`${address}${namespace}/${type}`, provider);
      }
    }
  };
  await walk(join(root, 'providers'), '', own);
  for (const [address, { releases }] of own) {
    for (const { version, signed } of releases.values()) {
      if (!signed) {
        report(
          `${address} ${version} is not in the registry, only in the mirror: it needs a manifest, checksums, their signature and the public key`,
        );
      }
    }
  }
  for (const host of await namesIn(join(root, 'mirror'), report)) {
    if (isProviderHost(host)) await walk(join(root, 'mirror', host), `${host}/`, mirrored);
    else report(`${join(root, 'mirror', host)} is not offered: its name must be that of a host in lower case`);
  }
  return { own, mirrored, problems };
}
