/** What Terraform starts. */
import { serve } from './framework/serve.ts';
import { provider } from './provider.ts';

await serve(provider);
