/** The cost of a creation that was tried by a dry run. */
import type { QuotedObjects, QuoteResult } from '../contract/resources/quotes.ts';
import { call } from './client.ts';
import { tell } from './standard-output.ts';

/** Returns the cost in words: `30.00 CHF per month, 5.00 CHF once`. Undefined without prices. */
function costOf({ currency, monthly, once }: QuoteResult): string | undefined {
  if (currency === undefined) return undefined;
  const later = /^0(\.0+)?$/.test(once) ? '' : `, ${once} ${currency} once`;
  return `${monthly} ${currency} per month${later}`;
}

/** The fields of objects that cost money, by the operation that creates them. */
const priced: Readonly<Record<string, readonly [keyof QuotedObjects, readonly string[]]>> = {
  vm_create: ['vms', ['cpus', 'memory', 'disk_size', 'power_state']],
  volume_create: ['volumes', ['size', 'pool']],
  prefix_create: ['prefixes', ['length']],
};

/** Returns the fields of a quote for a creation; undefined if the API chooses a size itself. */
async function quotedFields(operation: string, body: Readonly<Record<string, unknown>>): Promise<object | undefined> {
  const [, names = []] = priced[operation] ?? [];
  const fields = Object.fromEntries(names.flatMap((name) => (body[name] === undefined ? [] : [[name, body[name]]])));
  if (operation === 'prefix_create' && fields.length === undefined) {
    const length = Number(String(body.cidr ?? '').split('/')[1]);
    return Number.isInteger(length) && length > 0 ? { length } : undefined;
  }
  if (operation !== 'vm_create' || body.disk_size !== undefined || typeof body.image !== 'string') return fields;
  const image = (await call({ method: 'GET', path: `/v1/images/${body.image}` })) as { readonly size?: string };
  return image.size === undefined ? undefined : { ...fields, disk_size: image.size };
}

/** Tells the cost of a creation that was tried by a dry run. A cost that cannot be told is no failure. */
export async function tellCost(operation: string, body: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const [kind] = priced[operation] ?? [];
  if (kind === undefined) return;
  try {
    const fields = await quotedFields(operation, body);
    if (!fields) return;
    const { project } = body;
    const quote = { ...(project !== undefined && { project }), [kind]: [fields] };
    const cost = costOf((await call({ method: 'POST', path: '/v1/quotes', body: quote })) as QuoteResult);
    if (cost !== undefined) tell(`It would cost ${cost}.`);
  } catch (error) {
    tell(`The cost is unknown: ${error instanceof Error ? error.message : String(error)}`);
  }
}
