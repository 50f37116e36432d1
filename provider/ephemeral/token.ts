/**
 * A token for one run of Terraform, which neither plan nor state contains. The provider creates it before its first use and
 * revokes it after the last one. If Terraform is killed in between, the token expires at `expires_at`.
 */
import { randomBytes } from 'node:crypto';
import type { Client } from '../client/client.ts';
import { explain, isNotFound } from '../client/problem.ts';
import type { Field } from '../derive/fields.ts';
import { problemWith } from '../derive/rules.ts';
import { attribute, defineEphemeral, parseDuration, type Values } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';

const { path, fields } = schemaOf('token');

const checked = (name: string) => {
  const field: Field | undefined = fields[name];
  if (!field) throw new Error(`tokens have no ${name}`);
  return { description: field.description, validate: (value: string) => problemWith(field, value) };
};

const defaultLifetime = '1h';
const attributes = {
  name: attribute.string({
    ...checked('name'),
    optional: true,
    computed: true,
    description: 'Name of the token, for lists and the audit log. Default: `terraform-` and eight random digits.',
  }),
  role: attribute.string({ ...checked('role'), optional: true, computed: true }),
  project: attribute.string({
    ...checked('project'),
    optional: true,
    computed: true,
    description:
      'Id of the project that the token gives access to. Default: `project` of the provider, else the project of its token. Tokens of the roles `operator` and `billing` have none.',
  }),
  billing_account: attribute.string({ ...checked('billing_account'), optional: true, computed: true }),
  lifetime: attribute.string({
    optional: true,
    description: `Time after which the token expires if Terraform could not revoke it: \`30m\`, \`2h\`. It must be longer than the run. Default: \`${defaultLifetime}\`.`,
    validate: (text) => (parseDuration(text) === undefined ? 'Must be a time such as `30m` or `1h30m`.' : undefined),
  }),
  id: attribute.string({ computed: true, description: 'Id of the token.' }),
  secret: attribute.string({ computed: true, sensitive: true, description: 'The bearer token.' }),
  expires_at: attribute.string({ computed: true, description: 'Time at which the token expires (RFC 3339, UTC).' }),
};

export const token = defineEphemeral<Values, Client>({
  description:
    'A token for the time of one run, for the configuration of other providers, provisioners and write-only attributes. Each plan and each apply creates a token and revokes it at the end. Neither plan nor state contains it.',
  attributes,
  async open({ client, config, signal }) {
    const lifetime = typeof config.lifetime === 'string' ? config.lifetime : defaultLifetime;
    const milliseconds = parseDuration(lifetime) ?? 0;
    try {
      const hasProject = config.role !== 'operator' && config.role !== 'billing';
      const project = config.project ?? (!hasProject ? null : ((await client.project(signal)) ?? null));
      const made = await client.create(
        path,
        {
          name: config.name ?? `terraform-${randomBytes(4).toString('hex')}`,
          expires_at: new Date(Date.now() + milliseconds).toISOString(),
          ...(config.role !== null && { role: config.role }),
          ...(project !== null && { project }),
          ...(config.billing_account !== null && { billing_account: config.billing_account }),
        },
        signal,
      );
      const fields = made as unknown as Record<string, string>;
      const { id, name, role, secret, expires_at, project: own = null, billing_account = null } = fields;
      if (!id || !secret) throw new Error('the API answered without id or secret');
      return {
        result: { id, name, role, secret, expires_at, project: own, billing_account } as Values,
        private: { id },
      };
    } catch (error) {
      throw explain(error, 'A token was not created', new Set(Object.keys(attributes)));
    }
  },
  async close({ client, private: { id }, signal }) {
    if (typeof id !== 'string') return;
    await client.delete(path, id, signal).catch((error: unknown) => {
      if (!isNotFound(error)) throw explain(error, `Token ${id} was not revoked`, new Set());
    });
  },
});
