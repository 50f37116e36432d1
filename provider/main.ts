/** The main module of the program that Terraform starts. */

import { serve } from './framework/serve.ts';
import { encodedSchema } from './schema/encoded-schema.ts';

const schema = encodedSchema === undefined ? undefined : Buffer.from(encodedSchema, 'base64');
serve(async () => (await import('./provider.ts')).provider, { schema }).catch((error: unknown) => {
  // Terraform shows the first line of standard output if it is no handshake.
  console.log(`The ucloud provider did not start: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
});
