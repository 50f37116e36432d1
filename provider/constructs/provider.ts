/** The provider and its source for `terraform init`. */
import { TerraformStack } from 'cdktf';
import type { Construct } from 'constructs';
import {
  UcloudProvider as GeneratedProvider,
  type UcloudProviderConfig as GeneratedProviderConfig,
} from './bindings/provider/index.ts';
import { fail } from './checks.ts';

/** The configuration of the provider. */
export interface UcloudProviderConfig extends GeneratedProviderConfig {
  /**
   * The source from which `terraform init` installs the provider: `<host name of your cloud>/ucloud/ucloud`. Add
   * `:<port>` to the host name if the port is not 443. Terraform uses one source for all `ucloud` providers of a stack,
   * so set it at one of them.
   * @default ucloud.localhost/ucloud/ucloud, which must be in a mirror
   */
  readonly source?: string;
}

/**
 * The provider in a stack. A second provider needs an `alias`; pass it to constructs as `provider`. Endpoint, token and
 * project may also come from the environment, or from the credentials file of `ucloud login`.
 *
 * ```ts
 * new UcloudProvider(this, 'ucloud', { source: 'cloud.example.net/ucloud/ucloud' });
 * const lab = new UcloudProvider(this, 'lab', { alias: 'lab', project: 'prj-0123456789abcdef' });
 * new VirtualMachine(this, 'test', { image: 'demo', provider: lab });
 * ```
 */
export class UcloudProvider extends GeneratedProvider {
  readonly #source: string | undefined;

  /** @throws Error if `source` is invalid, or differs from that of another `ucloud` provider in the stack */
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
