/** The provider: its configuration, resources, data sources and functions. */
import type { Client } from './client/client.ts';
import {
  endpointProblem,
  resolve,
  retriesProblem,
  retryOptions,
  type Settings,
  sourceOf,
  timeoutProblem,
} from './client/configuration.ts';
import { type ProxySetting, proxyFor } from './client/proxy.gen.ts';
import { dataSources } from './data-sources/index.ts';
import { ephemeral } from './ephemeral/index.ts';
import { attribute, DiagnosticError, type ProviderDefinition, UNKNOWN } from './framework/index.ts';
import { functions } from './functions/index.ts';
import type { PlanSession } from './plan-session/plan-session.ts';
import { resources } from './resources/index.ts';
import { version } from './schema/resources.gen.ts';

interface Config {
  endpoint: string | null;
  token: string | null;
  project: string | null;
  ca_file: string | null;
  max_retries: number | null;
  request_timeout: string | null;
}

/** The definition of the provider. */
export const provider: ProviderDefinition<Client, Config, PlanSession> = {
  name: 'ucloud',
  address: 'ucloud.localhost/ucloud/ucloud',
  version,
  description:
    'Virtual machines, IPv6 networks and prefixes of a ucloud. If an attribute is omitted, the provider uses the environment variable, then the credentials file that `ucloud login` writes (`~/.config/ucloud/credentials.json`, or UCLOUD_CREDENTIALS).',
  attributes: {
    endpoint: attribute.string({
      optional: true,
      description: 'URL of the API, such as `https://cloud.example.net`. Environment: UCLOUD_ENDPOINT.',
      validate: endpointProblem,
    }),
    token: attribute.string({
      optional: true,
      sensitive: true,
      description:
        'Token of the caller. Set it by the environment, UCLOUD_TOKEN, rather than here. The provider sends the token of the credentials file only to the endpoint of that file.',
    }),
    project: attribute.string({
      optional: true,
      description:
        'Id of the project of new objects without a `project` of their own. Default: the project of the token. Environment: UCLOUD_PROJECT.',
    }),
    ca_file: attribute.string({
      optional: true,
      description:
        'PEM file of the trusted CAs of the endpoint. Default: the CAs that the machine trusts. Environment: UCLOUD_CA_FILE.',
    }),
    max_retries: attribute.number({
      optional: true,
      description:
        'Maximum number of retries of a request that failed without a connection, or with an error that the API calls retryable. Default: 7, which takes about half a minute. 0: no retries. The error `rate_limited` (429) does not count. `timeouts` limit the waits for objects. Environment: UCLOUD_MAX_RETRIES.',
      validate: (value) => retriesProblem(value),
    }),
    request_timeout: attribute.string({
      optional: true,
      description:
        'Maximum time until the response to a request begins, such as `10s`. The request has then failed. Default: `30s`. Environment: UCLOUD_REQUEST_TIMEOUT.',
      validate: (value) => timeoutProblem(value),
    }),
  },
  async configure({ config, terraformVersion }) {
    const { endpoint, token, project, ca_file, max_retries, request_timeout } = config;
    if (Object.values(config).includes(UNKNOWN)) return undefined;
    const known = (value: string | null | typeof UNKNOWN) => (typeof value === 'string' ? value : undefined);
    const block: Settings = {
      endpoint: known(endpoint),
      token: known(token),
      project: known(project),
      ca_file: known(ca_file),
    };
    const configuration = resolve(block, process.env);
    const retries = retryOptions(
      {
        max_retries: typeof max_retries === 'number' ? max_retries : undefined,
        request_timeout: known(request_timeout),
      },
      process.env,
    );
    const { Client } = await import('./client/client.ts');
    return new Client({
      endpoint: configuration.endpoint,
      token: configuration.token,
      project: configuration.project,
      caFile: configuration.ca_file,
      caFileFrom: sourceOf('ca_file', block, process.env),
      proxy: findProxy(configuration.endpoint),
      ...retries,
      userAgent: `terraform-provider-ucloud/${version} Terraform/${terraformVersion}`,
    });
  },
  async startSession(client) {
    const { PlanSession } = await import('./plan-session/plan-session.ts');
    return new PlanSession(client);
  },
  resources,
  dataSources,
  functions,
  ephemeral,
};

function findProxy(endpoint: string): ProxySetting | undefined {
  try {
    return proxyFor(new URL(endpoint), process.env);
  } catch (error) {
    throw new DiagnosticError('The proxy cannot be used', `${(error as Error).message}.`);
  }
}
