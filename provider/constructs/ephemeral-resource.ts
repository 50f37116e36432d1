/**
 * Ephemeral resources for cdktf, which ended before it had them: an element that writes a block `ephemeral`. cdktn has a
 * class of this name, which takes this one's place there; so what is generated on top fits both.
 */
import {
  dependable,
  type ITerraformDependable,
  ref,
  TerraformElement,
  type TerraformProvider,
  type TerraformProviderGeneratorMetadata,
  Token,
} from 'cdktf';
import type { Construct } from 'constructs';

export interface TerraformEphemeralMetaArguments {
  /** What has to be there before it is opened. */
  readonly dependsOn?: ITerraformDependable[];
  /** @default the provider without an alias */
  readonly provider?: TerraformProvider;
}

export interface TerraformEphemeralResourceConfig extends TerraformEphemeralMetaArguments {
  readonly terraformResourceType: string;
  readonly terraformGeneratorMetadata?: TerraformProviderGeneratorMetadata;
}

export class TerraformEphemeralResource extends TerraformElement {
  readonly terraformResourceType: string;
  readonly terraformGeneratorMetadata: TerraformProviderGeneratorMetadata | undefined;
  readonly dependsOn: string[] | undefined;
  readonly provider: TerraformProvider | undefined;

  constructor(scope: Construct, id: string, config: TerraformEphemeralResourceConfig) {
    super(scope, id, `ephemeral.${config.terraformResourceType}`);
    this.terraformResourceType = config.terraformResourceType;
    this.terraformGeneratorMetadata = config.terraformGeneratorMetadata;
    this.dependsOn = config.dependsOn?.map(dependable);
    this.provider = config.provider;
  }

  /** Refers to an attribute. Terraform takes it only where nothing is kept: providers, provisioners, write-only arguments. */
  getStringAttribute(attribute: string): string {
    return Token.asString(
      ref(`ephemeral.${this.terraformResourceType}.${this.friendlyUniqueId}.${attribute}`, this.cdktfStack),
    );
  }

  protected synthesizeAttributes(): Record<string, unknown> {
    return {};
  }

  override toTerraform(): Record<string, unknown> {
    const block = {
      ...this.synthesizeAttributes(),
      depends_on: this.dependsOn,
      provider: this.provider?.fqn,
      ...(this.rawOverrides as Record<string, unknown>),
      '//': this.constructNodeMetadata,
    };
    return { ephemeral: { [this.terraformResourceType]: { [this.friendlyUniqueId]: block } } };
  }
}
