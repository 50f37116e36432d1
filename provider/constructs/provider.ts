/** The provider, with the place to install it from. */
import { TerraformStack } from 'cdktf';
import type { Construct } from 'constructs';
import {
  UcloudProvider as GeneratedProvider,
  type UcloudProviderConfig as GeneratedProviderConfig,
} from './bindings/provider/index.ts';
import { fail } from './checks.ts';

export interface UcloudProviderConfig extends GeneratedProviderConfig {
  /**
   * What `terraform init` installs the provider from: `<host name of your cloud>/ucloud/ucloud`, with `:<port>` after the
   * host name where it is not 443. Terraform knows one source for all providers `ucloud` of a stack, so it is enough to
   * say it at one of them.
   * @default ucloud.localhost/ucloud/ucloud, which has to be in a mirror
   */
  readonly source?: string;
}

/**
 * The provider in a stack; a second one needs an `alias`, and is handed to what shall use it as `provider`. Endpoint, token
 * and project may also come from the environment, or from the credentials file that `ucloud login` writes.
 *
 * ```ts
 * new UcloudProvider(this, 'ucloud', { source: 'cloud.example.net/ucloud/ucloud' });
 * const lab = new UcloudProvider(this, 'lab', { alias: 'lab', project: 'prj-0123456789abcdef' });
 * new VirtualMachine(this, 'test', { image: 'demo', provider: lab });
 * ```
 */
export class UcloudProvider extends GeneratedProvider {
  readonly #source: string | undefined;

  /** @throws Error when `source` is none, or is not that of another provider `ucloud` in the stack */
  constructor(scope: Construct, id: string, config: UcloudProviderConfig = {}) {
    const { source, ...rest } = config;
    super(scope, id, rest);
    this.#source = source;
    if (source === undefined) return;
    if (!/^[a-z0-9.-]+(:\d+)?\/[a-z0-9-]+\/[a-z0-9-]+$/.test(source)) {
      fail(this, `source must be the host name of the cloud and /ucloud/ucloud, not "${source}"`);
    }
    const other = this.#sources().find((each) => each !== source);
    if (other !== undefined) fail(this, `source is ${source}, but another provider of the stack has ${other}`);
  }

  override toTerraform(): object {
    return this.#installed(super.toTerraform());
  }

  override toHclTerraform(): object {
    return this.#installed(super.toHclTerraform());
  }

  #sources(): string[] {
    const all = TerraformStack.of(this).node.findAll();
    return all.flatMap((each) => (each instanceof UcloudProvider && each.#source !== undefined ? [each.#source] : []));
  }

  #installed(fragment: object): object {
    const [source = this.terraformProviderSource] = this.#sources();
    const version = this.terraformGeneratorMetadata?.providerVersion;
    return { ...fragment, terraform: { required_providers: { [this.terraformResourceType]: { source, version } } } };
  }
}
