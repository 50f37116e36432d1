/** Imports files as the image scanner does, without a database. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { newId } from '../../backend/model/ids.ts';
import type { ImageRecord } from '../../backend/model/records/index.ts';
import { FairSlots } from '../../backend/scanner/fair-slots.ts';
import { type Imported, importImage } from '../../backend/scanner/import.ts';
import { defaultLimits, type ImportLimits } from '../../backend/scanner/limits.ts';
import { temporaryDirectory } from './stores.ts';

/** The skip of a test that needs a program which the machine lacks. */
export function needs(program: string, debianPackage: string): { readonly skip?: string } {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' });
    return {};
  } catch {
    return { skip: `${program} is not installed (package ${debianPackage})` };
  }
}
export const needsQemuImg = needs('qemu-img', 'qemu-utils');

export const imageOf = (project: ImageRecord['project'], source: string): ImageRecord => {
  const now = new Date().toISOString();
  const described = { name: 'image', labels: {}, description: '', delete_protection: false };
  const of = { architecture: 'x86_64', visibility: 'project' } as const;
  return { id: newId('image'), project, source, ...described, ...of, created_at: now, updated_at: now };
};

/** Returns an importer of files and URLs, and its directories. */
export function importer(t: Test, limits: Partial<ImportLimits> = {}) {
  const directory = temporaryDirectory(t);
  const project = newId('project');
  const [imageStore, staging] = [join(directory, 'images'), join(directory, 'images', '.staging')];
  mkdirSync(join(directory, 'files', project), { recursive: true });
  mkdirSync(staging, { recursive: true });
  return {
    imageStore,
    staging,
    import: (source: string): Promise<Imported> =>
      importImage(
        imageOf(project, source),
        {
          filesDir: join(directory, 'files'),
          imageStore,
          staging,
          allowPrivateAddresses: true,
          storeImage: true,
          limits: { ...defaultLimits, ...limits },
          conversions: new FairSlots(2),
        },
        new AbortController().signal,
        () => true,
      ),
    importBytes(bytes: Uint8Array): Promise<Imported> {
      writeFileSync(join(directory, 'files', project, 'disk'), bytes);
      return this.import('file:disk');
    },
  };
}

/** Returns the error of the work, if there is one. */
export const faultOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );
