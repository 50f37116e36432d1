/** The load order of kernel modules, read from the modules as depmod does. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** A kernel module. */
export interface KernelModule {
  /** The name for `modprobe`: underscores, no suffix. */
  readonly name: string;
  /** The path of the file, below the tree of modules. */
  readonly path: string;
  readonly dependencies: readonly string[];
}

const nameOf = (path: string): string => basename(path, '.ko').replaceAll('-', '_');

/** Returns the dependencies of a module. `.modinfo` contains zero-terminated `key=value` strings. */
function dependenciesOf(file: Buffer): string[] {
  const key = Buffer.from('\0depends=');
  const start = file.indexOf(key);
  if (start < 0) return [];
  const end = file.indexOf(0, start + key.length);
  const list = file.toString('latin1', start + key.length, end);
  return list.split(',').filter(Boolean);
}

/**
 * Returns the modules with all their dependencies, in load order. A name without a file is skipped, because it is built
 * into the kernel.
 */
export async function moduleClosure(tree: string, names: readonly string[]): Promise<KernelModule[]> {
  const files = (await readdir(tree, { recursive: true })).filter((path) => path.endsWith('.ko'));
  const byName = new Map(files.map((path) => [nameOf(path), path]));
  const ordered = new Map<string, KernelModule>();
  const add = async (name: string): Promise<void> => {
    const path = byName.get(name);
    if (path === undefined || ordered.has(name)) return;
    const dependencies = dependenciesOf(await readFile(join(tree, path))).map((each) => each.replaceAll('-', '_'));
    for (const dependency of dependencies) await add(dependency);
    ordered.set(name, { name, path, dependencies });
  };
  for (const name of names) await add(name);
  return [...ordered.values()];
}
