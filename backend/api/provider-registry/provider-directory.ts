/** A directory of provider packages that changes under the feet of who serves it. */
import type { Logger } from '../../model/component.ts';
import { type Catalogue, readCatalogue } from './catalogue.ts';

/** How long what was read counts as new: however many requests there are, the directory is not read more often. */
const freshMs = 200;

export interface ProviderDirectory {
  /** What is there now, give or take a fifth of a second. */
  current(): Promise<Catalogue>;
}

/** Says what is offered, and what not and why, whenever that changes. */
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
