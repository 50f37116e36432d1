/** A prefix. Addition to the derived resource: a plan contains the length of a configured `cidr`, and checks its pool. */
import { deriveResource } from '../derive/resource.ts';
import { contains, parsePrefix } from '../net/ipv6.ts';
import { schemaOf } from '../schema/resources.gen.ts';

/** The prefix length of a network. */
const networkLength = 64;

export const prefix = deriveResource(schemaOf('prefix'), {
  validate({ config, diagnostics }) {
    const cidr = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (cidr && cidr.length > networkLength) {
      const detail = `\`cidr\` is a /${cidr.length}, which contains no /${networkLength} for a network.`;
      diagnostics.error('The prefix is too small', detail, ['cidr']);
    }
    if (cidr && typeof config.length === 'number' && cidr.length !== config.length) {
      diagnostics.error(
        'The length contradicts the cidr',
        `\`cidr\` is a /${cidr.length}. Set \`length = ${cidr.length}\`, or remove \`length\`.`,
        ['length'],
      );
    }
  },
  async modifyPlan({ action, session, config, planned, diagnostics, signal }) {
    const text = typeof config.cidr === 'string' ? config.cidr : '';
    const cidr = parsePrefix(text);
    if (action !== 'create') return;
    if (cidr && config.length === null) Object.assign(planned, { length: cidr.length });
    if (!session || typeof config.pool !== 'string') return;
    const pool = await session.find(schemaOf('prefix_pool').path, config.pool, signal);
    const outer = pool && parsePrefix(String(pool.cidr));
    if (!pool || !outer) return;
    const { name, cidr: space } = pool;
    if (cidr && !contains(outer, cidr)) {
      diagnostics.error('The prefix is outside its pool', `${text} is not inside ${space}, the pool ${name}.`, [
        'cidr',
      ]);
    } else if (typeof config.length === 'number' && config.length < outer.length) {
      diagnostics.error(
        'The prefix is larger than its pool',
        `A /${config.length} does not fit into ${space}, the pool ${name}.`,
        ['length'],
      );
    } else {
      const [given, attribute] = cidr ? [cidr.length, 'cidr'] : [config.length, 'length'];
      const shortest = Math.min(Number(pool.min_length), Number(pool.default_length));
      if (typeof given !== 'number' || !(given < shortest)) return;
      diagnostics.error(
        'The prefix is larger than its pool allows',
        `The largest prefix of the pool ${name} is a /${shortest}, not a /${given}. An operator can change the \`min_length\` of the pool.`,
        [attribute],
      );
    }
  },
});
