/** A prefix. Beyond what is derived: what follows from a `cidr` that is given is in the plan. */
import { deriveResource } from '../derive/resource.ts';
import { contains, parsePrefix } from '../net/ipv6.ts';
import { schemaOf } from '../schema/resources.gen.ts';

/** Length of the prefix of a network. */
const longest = 64;

export const prefix = deriveResource(schemaOf('prefix'), {
  validate({ config, diagnostics }) {
    const cidr = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (cidr && cidr.length > longest) {
      const detail = `\`cidr\` is a /${cidr.length}, which holds no /${longest} for a network.`;
      diagnostics.error('The prefix is too small', detail, ['cidr']);
    }
    if (cidr && typeof config.length === 'number' && cidr.length !== config.length) {
      diagnostics.error(
        'The length contradicts the cidr',
        `\`cidr\` is a /${cidr.length}. Set \`length = ${cidr.length}\`, or leave it out.`,
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
        'The prefix is larger than its pool gives at once',
        `One prefix of the pool ${name} is at most a /${shortest}, not a /${given}. An operator can change the \`min_length\` of the pool.`,
        [attribute],
      );
    }
  },
});
