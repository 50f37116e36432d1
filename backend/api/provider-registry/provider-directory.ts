/** A directory of provider packages. Its content may change while the API runs. */
import type { Logger } from '../../model/component.ts';
import { type Catalogue, readCatalogue } from './catalogue.ts';

/** Milliseconds for which a reading is current, so that many requests do not cause many readings. */
const freshMs = 200;

/** The packages of a directory at this time. */
export interface ProviderDirectory {
  /** Returns the packages, as they were at most 200 ms ago. */
  current(): Promise<Catalogue>;
}

/** Opens the directory. Logs the offered and the unusable packages after each change. */
export async function openProviderDirectory(root: string, logger: Logger): Promise<ProviderDirectory> {
  let said = '';
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<Catalogue> | undefined;
  let latest: Catalogue;

  const tell = ({ own, mirrored, problems }: Catalogue) => {
    const offered = [...own, ...mirrored].map(
      ([address, { releases }]) => `${address} ${[...releases.keys()].join(', ')}`,
    );
    const summary = JSON.stringify([offered, problems]);
    if (summary === said) return;
    said = summary;
    if (offered.length > 0) logger.info({ directory: root, offered }, 'Terraform providers are served');
    if (problems.length > 0) logger.warn({ directory: root, problems }, 'not all provider packages are served');
  };
  const read = async (): Promise<Catalogue> => {
    try {
      latest = await readCatalogue(root);
      readAt = performance.now();
      tell(latest);
      return latest;
    } finally {
      reading = undefined;
    }
  };
  latest = await read();
  return {
    async current() {
      if (performance.now() - readAt < freshMs) return latest;
      reading ??= read();
      return reading;
    },
  };
}
