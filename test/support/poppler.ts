/** Poppler, which reads PDF files: the programs pdftotext, pdftoppm, pdfinfo and pdfdetach. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Returns why Poppler is missing on this machine, or false: for the `skip` option of a test. */
export const noPoppler = (): Promise<string | false> =>
  promisify(execFile)('pdftoppm', ['-v']).then(
    () => false,
    () => 'pdftoppm is missing: install the Debian package poppler-utils',
  );
