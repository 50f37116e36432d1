/** PrefixPlan: its synthesized JSON. test/unit/subnets.test.ts tests the places of subnets. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Terraform's references
import { TerraformOutput, type TerraformStack, TerraformVariable } from 'cdktf';
import t from 'tap';
import {
  bindings,
  Network,
  PrefixPlan,
  type PrefixPlanConfig,
  type Space,
  UcloudProvider,
} from '../../provider/constructs/index.ts';
import { built, synthesize } from '../support/synthesized.ts';

t.test('PrefixPlan cuts a prefix', async (t) => {
  await t.test('of its own, into subnets for networks and for further plans', async (t) => {
    t.strictSame(
      built((stack) => {
        const site = new PrefixPlan(stack, 'site', {
          name: 'site-a',
          pool: 'pool-0123456789abcdef',
          labels: { site: 'a' },
          subnets: ['web', { name: 'lab', length: 60 }, { name: 'old', retired: true }, 'db'],
        });
        t.strictSame(
          site.subnets.map(({ name, length }) => [name, length]),
          [
            ['web', 64],
            ['lab', 60],
            ['db', 64],
          ],
        );
        const lab = new PrefixPlan(stack, 'lab', { within: site.subnet('lab'), subnets: ['alice', 'bob'] });
        t.equal(lab.ownPrefix, undefined);
        t.strictSame([lab.id, lab.cidr, lab.length], [site.id, site.subnet('lab').cidr, 60]);
        for (const subnet of [site.subnet('web'), site.subnet('db'), lab.subnet('bob')]) {
          new Network(stack, subnet.name, { subnet });
        }
      }),
      {
        'ucloud_prefix.site': {
          name: 'site-a',
          length: 56,
          pool: 'pool-0123456789abcdef',
          labels: { site: 'a' },
        },
        'ucloud_network.web': {
          name: 'web',
          prefix: '${ucloud_prefix.site.id}',
          cidr: '${cidrsubnet(ucloud_prefix.site.cidr, 8, 0)}',
        },
        // The /60 starts at 16, so the retired subnet has the place 1, and this one 2.
        'ucloud_network.db': {
          name: 'db',
          prefix: '${ucloud_prefix.site.id}',
          cidr: '${cidrsubnet(ucloud_prefix.site.cidr, 8, 2)}',
        },
        'ucloud_network.bob': {
          name: 'bob',
          prefix: '${ucloud_prefix.site.id}',
          cidr: '${cidrsubnet(cidrsubnet(ucloud_prefix.site.cidr, 4, 1), 4, 1)}',
        },
      },
    );
  });

  await t.test('that is there already', async (t) => {
    const { output } = synthesize((stack) => {
      const cut = (id: string, config: { within: Space; length?: number }) => {
        const { subnets } = new PrefixPlan(stack, id, { ...config, subnets: [{ name: 'a', length: 60 }, 'b'] });
        new TerraformOutput(stack, `${id}-cidrs`, { staticId: true, value: subnets.map((each) => each.cidr) });
      };
      const { Prefix } = bindings.prefix;
      cut('literal', { within: { id: 'pfx-0', cidr: '2001:DB8:0::/48' } });
      const made = new Prefix(stack, 'made', { name: 'made', length: 48 });
      cut('resource', { within: made });
      cut('wished', { within: new Prefix(stack, 'wish', { name: 'wish', cidr: '2001:db8::/52' }) });
      const found = new bindings.dataUcloudPrefix.DataUcloudPrefix(stack, 'found', { name: 'found' });
      cut('data', { within: found, length: 56 });
      t.throws(() => cut('unknown', { within: found }), {
        message: 'test/unknown: length is missing: within does not tell it before apply',
      });
      t.throws(() => cut('other', { within: made, length: 56 }), {
        message: 'test/other: within is a /48, but length is 56',
      });
    });
    t.strictSame(Object.fromEntries(Object.entries(output ?? {}).map(([name, { value }]) => [name, value])), {
      // Known places become text.
      'literal-cidrs': ['2001:db8::/60', '2001:db8:0:10::/64'],
      'resource-cidrs': [
        '${cidrsubnet(ucloud_prefix.made.cidr, 12, 0)}',
        '${cidrsubnet(ucloud_prefix.made.cidr, 16, 16)}',
      ],
      // The id is still an expression, so that Terraform creates the prefix first.
      'wished-cidrs': [
        '${cidrsubnet(ucloud_prefix.wish.cidr, 8, 0)}',
        '${cidrsubnet(ucloud_prefix.wish.cidr, 12, 16)}',
      ],
      'data-cidrs': [
        '${cidrsubnet(data.ucloud_prefix.found.cidr, 4, 0)}',
        '${cidrsubnet(data.ucloud_prefix.found.cidr, 8, 16)}',
      ],
    });
  });

  await t.test('with all that a prefix takes, by order or by number', async (t) => {
    const { resource, output } = synthesize((stack) => {
      const lab = new UcloudProvider(stack, 'lab', { alias: 'lab' });
      const own = new PrefixPlan(stack, 'own', {
        cidr: '2001:db8::/48',
        provider: lab,
        deleteProtection: true,
        lifecycle: { preventDestroy: true },
        subnets: ['a'],
      });
      // Subnets can be added and removed in any order.
      const plan = (id: string, subnets: PrefixPlanConfig['subnets']) => {
        const cidrs = new PrefixPlan(stack, id, { within: { id: 'pfx-0', cidr: '2001:db8::/56' }, subnets }).subnets;
        return Object.fromEntries(cidrs.map(({ name, cidr }) => [name, cidr]));
      };
      const [db, lab60] = [
        { name: 'db', index: 2 },
        { name: 'lab', length: 60, index: 1 },
      ];
      const expected = { db: '2001:db8:0:2::/64', lab: '2001:db8:0:10::/60' };
      t.strictSame(plan('two', [db, lab60]), expected);
      t.strictSame(plan('more', [{ name: 'new', index: 3 }, lab60, { name: 'web', index: 0 }, db]), {
        new: '2001:db8:0:3::/64',
        ...expected,
        web: '2001:db8::/64',
      });
      // A plan can divide another plan.
      const again = new PrefixPlan(stack, 'again', { within: own, subnets: [{ name: 'x', length: 56, index: 255 }] });
      new TerraformOutput(stack, 'x', { value: again.subnet('x').cidr });
      new Network(stack, 'lan', { subnet: own.subnet('a'), dependsOn: [own] });
      t.throws(() => again.fqn, {
        message: 'test/again: the plan has within, so it has no prefix of its own to wait for',
      });
    });
    t.match(resource.ucloud_prefix?.own, {
      name: 'own',
      cidr: '2001:db8::/48',
      provider: 'ucloud.lab',
      delete_protection: true,
      lifecycle: { prevent_destroy: true },
    });
    t.notOk('length' in (resource.ucloud_prefix?.own ?? {}), 'the CIDR says it');
    t.match(resource.ucloud_network?.lan, {
      cidr: '${cidrsubnet(ucloud_prefix.own.cidr, 16, 0)}',
      depends_on: ['ucloud_prefix.own'],
    });
    t.equal(output?.x?.value, '${cidrsubnet(ucloud_prefix.own.cidr, 8, 255)}');
  });

  await t.test('but not by values that only Terraform knows', async (t) => {
    const refused = (config: (stack: TerraformStack) => PrefixPlanConfig) => () =>
      synthesize((stack) => new PrefixPlan(stack, 'p', config(stack)));
    const only = (stack: TerraformStack) => new TerraformVariable(stack, 'only', {});
    const unknown = 'must be known while the app runs, not only to Terraform';
    const subnet = (stack: TerraformStack) => ({ name: 'a', length: only(stack).numberValue });
    t.throws(
      refused((stack) => ({ subnets: only(stack).listValue })),
      { message: `test/p: subnets ${unknown}` },
    );
    t.throws(
      refused((stack) => ({ length: only(stack).numberValue, subnets: [] })),
      {
        message: `test/p: length ${unknown}`,
      },
    );
    t.throws(
      refused((stack) => ({ subnets: [only(stack).stringValue] })),
      {
        message: `test/p: the name of a subnet ${unknown}`,
      },
    );
    t.throws(
      refused((stack) => ({ subnets: [subnet(stack)] })),
      {
        message: `test/p: the length of subnet "a" ${unknown}`,
      },
    );
    t.throws(
      refused((stack) => ({ cidr: only(stack).stringValue, subnets: ['a'] })),
      {
        message: 'test/p: length is missing: cidr does not tell it before apply',
      },
    );
    const { resource, output } = synthesize((stack) => {
      const cidr = only(stack).stringValue;
      const plan = new PrefixPlan(stack, 'p', { name: 'site', cidr, length: 48, subnets: ['a'] });
      new TerraformOutput(stack, 'a', { value: plan.subnet('a').cidr });
    });
    t.match(resource.ucloud_prefix?.p, { name: 'site', cidr: '${var.only}' }, 'what is handed on may be anything');
    t.equal(output?.a?.value, '${cidrsubnet(ucloud_prefix.p.cidr, 16, 0)}');
  });

  await t.test('unless it contradicts itself', async (t) => {
    const refused = (config: object) => () =>
      synthesize((stack) => void new PrefixPlan(stack, 'p', config as PrefixPlanConfig));
    const within = { id: 'pfx-0', cidr: '2001:db8::/62' };
    t.throws(refused({ within, name: 'a', subnets: [] }), {
      message: /^test\/p: name cannot be set together with within/,
    });
    t.throws(refused({ within, pool: 'pool-0', subnets: [] }), {
      message: /^test\/p: pool cannot be set together with within/,
    });
    t.throws(refused({ within, subnets: ['a', 'b', 'c', 'd', 'e'] }), {
      message: 'test/p: subnet "e", a /64, has no room left in the /62',
    });
    t.throws(refused({ within: { id: 'pfx-0', cidr: '2001:db8::1/62' }, subnets: [] }), {
      message: 'test/p: "2001:db8::1/62" is not an IPv6 prefix such as 2001:db8::/56',
    });
    t.throws(refused({ name: 'Site', subnets: [] }), { message: /^test\/p: name must be 1 to 63 .* not "Site"$/ });
    t.throws(refused({ cidr: '2001:db8::/48', length: 56, subnets: [] }), {
      message: 'test/p: cidr is a /48, but length is 56',
    });
    t.throws(refused({ within: { id: 'pfx-0', cidr: '10.0.0.0/8' }, length: 56, subnets: [] }), {
      message: 'test/p: "10.0.0.0/8" is not an IPv6 prefix such as 2001:db8::/56',
    });
    t.throws(() => synthesize((stack) => new PrefixPlan(stack, 'p', { subnets: ['a', 'b'] }).subnet('c')), {
      message: 'test/p: there is no subnet "c", only "a", "b"',
    });
  });
});
