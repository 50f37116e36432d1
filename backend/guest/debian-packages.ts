/**
 * Debian packages as parts of an image. apt finds them with their libraries, downloads them and verifies them; they are
 * then kept in a directory and unpacked. Nothing is installed on this machine, and root is not needed.
 *
 * With a complete directory no network is needed. Without apt's lists, the last result is used.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

const run = promisify(execFile);
const buffered = { maxBuffer: 64 * 1024 * 1024 };

const PackageFile = Type.Object({ name: Type.String(), sha256: Type.String() });
/** A package file, by the name that apt gives it. */
export type PackageFile = Static<typeof PackageFile>;

/** The last result, stored in the directory. It is valid as long as apt's lists are unchanged. */
const Manifest = Type.Object({
  packages: Type.Array(Type.String()),
  /** The time of the last change of apt's lists, in milliseconds. */
  lists: Type.Number(),
  files: Type.Array(PackageFile),
});
const listsDirectory = '/var/lib/apt/lists';

/** `linux-image-cloud-amd64` is empty and depends on the package of the current version, which has this name. */
const kernelPackage = /^linux-image-\d.*-cloud-amd64$/;
const followed = (name: string): boolean => /^(lib|zlib)/.test(name) || kernelPackage.test(name);

async function dependencies(packages: readonly string[]): Promise<string[]> {
  const { stdout } = await run('apt-cache', ['depends', '--important', ...packages], buffered);
  return [...stdout.matchAll(/^[ |]+(?:Pre)?Depends: ([^<\s]+)$/gm)].flatMap(([, name]) => name ?? []);
}

/** Returns the packages with all direct and indirect libraries. */
async function withLibraries(packages: readonly string[]): Promise<string[]> {
  const all = new Set(packages);
  let added: readonly string[] = packages;
  while (added.length > 0) {
    const found = (await dependencies(added)).filter((name) => followed(name) && !all.has(name));
    added = [...new Set(found)];
    for (const name of added) all.add(name);
  }
  return [...all].sort();
}

const sha256 = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

/** The packages are unavailable. The message contains the remedy. */
export class PackagesUnavailable extends Error {}

/**
 * Finds the package files of these packages with their libraries. Needs no network.
 * @param directory the directory that stores the result
 * @throws PackagesUnavailable if this is not a Debian system, or apt has no lists
 */
export async function resolvePackages(packages: readonly string[], directory: string): Promise<PackageFile[]> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'packages.json');
  const stored: unknown = await readFile(path, 'utf8').then(JSON.parse, () => undefined);
  const last = Value.Check(Manifest, stored) && stored.packages.join() === packages.join() ? stored : undefined;
  const lists = await stat(listsDirectory).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
  if (last?.lists === lists) return last.files;
  try {
    const names = await withLibraries(packages);
    const { stdout } = await run('apt-get', ['download', '--print-uris', ...names], buffered);
    const files = [...stdout.matchAll(/^'[^']+' (\S+) \d+ SHA256:([0-9a-f]{64})$/gm)].flatMap(([, name, sha256]) =>
      name && sha256 ? [{ name, sha256 }] : [],
    );
    if (files.length < names.length) throw new Error(`apt-get knows ${files.length} of ${names.length} packages`);
    const manifest: Static<typeof Manifest> = { packages: [...packages], lists, files };
    const temporary = `${path}.${process.pid}`;
    await writeFile(temporary, JSON.stringify(manifest, undefined, 1));
    await rename(temporary, path);
    return files;
  } catch (err) {
    if (last) return last.files;
    throw new PackagesUnavailable(
      'apt does not know the Debian packages that the image is made from. On Debian, run `apt-get update` once; elsewhere, use an image made on Debian.',
      { cause: err },
    );
  }
}

/** Downloads the files that are missing in the directory. @throws PackagesUnavailable if the download fails */
export async function downloadPackages(files: readonly PackageFile[], directory: string): Promise<void> {
  const here = new Set(await readdir(directory));
  const missing: PackageFile[] = [];
  for (const file of files) {
    if (!here.has(file.name) || (await sha256(join(directory, file.name))) !== file.sha256) missing.push(file);
  }
  if (missing.length > 0) await fetchInto(directory, missing);
}

async function fetchInto(directory: string, files: readonly PackageFile[]): Promise<void> {
  const partial = await mkdtemp(join(directory, 'partial-'));
  // busybox_1%3a1.35.0-4+deb12u1_amd64.deb is version 1:1.35.0-4+deb12u1 of busybox.
  const exact = files.map(({ name }) => {
    const [packageName, version] = name.split('_');
    return `${packageName}=${decodeURIComponent(version ?? '')}`;
  });
  try {
    await run('apt-get', ['-q', '-o', 'APT::Sandbox::User=root', 'download', ...exact], { cwd: partial, ...buffered });
    for (const { name } of files) await rename(join(partial, name), join(directory, name));
  } catch (err) {
    throw new PackagesUnavailable(
      `could not download ${files.length} Debian packages (${exact[0]}, …). Is the network there? Has \`apt-get update\` been run lately?`,
      { cause: err },
    );
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

/** Unpacks package files, all into one tree. */
export async function unpackPackages(directory: string, files: readonly PackageFile[], into: string): Promise<void> {
  await mkdir(into, { recursive: true });
  for (const { name } of files) await run('dpkg-deb', ['-x', join(directory, name), into]);
}
