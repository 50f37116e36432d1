/**
 * Ephemeral resources for cdktf, which ended before it had them: an element that writes a block `ephemeral`. cdktn has a
 * class of this name, which takes this one's place there; so what is generated on top fits both.
 */
import {
  dependable,
  type ITerraformDependable,
  type ITerraformIterator,
  ref,
  TerraformCount,
  TerraformElement,
  type TerraformProvider,
  type TerraformProviderGeneratorMetadata,
  type TerraformResourceLifecycle,
  Token,
} from 'cdktf';
import type { Construct } from 'constructs';
import { fail } from './checks.ts';

export interface TerraformEphemeralMetaArguments {
  /** What has to be there before it is opened. */
  readonly dependsOn?: ITerraformDependable[];
  /** How many, known at the latest in the plan. Not together with `forEach`. @default one, which is no list */
  readonly count?: number | TerraformCount;
  /** One for each element. Not together with `count`. */
  readonly forEach?: ITerraformIterator;
  /** Only conditions: Terraform takes nothing else here. */
  readonly lifecycle?: Pick<TerraformResourceLifecycle, 'precondition' | 'postcondition'>;
  /** @default the provider without an alias */
  readonly provider?: TerraformProvider;
}

export interface TerraformEphemeralResourceConfig extends TerraformEphemeralMetaArguments {
  readonly terraformResourceType: string;
  readonly terraformGeneratorMetadata?: TerraformProviderGeneratorMetadata;
}

type Condition = NonNullable<TerraformResourceLifecycle['precondition' | 'postcondition']>[number];
const conditionToTerraform = ({ condition, errorMessage }: Condition) => ({ condition, error_message: errorMessage });

export class TerraformEphemeralResource extends TerraformElement {
  readonly terraformResourceType: string;
  readonly terraformGeneratorMetadata: TerraformProviderGeneratorMetadata | undefined;
  readonly #meta: TerraformEphemeralMetaArguments;

  constructor(scope: Construct, id: string, config: TerraformEphemeralResourceConfig) {
    super(scope, id, `ephemeral.${config.terraformResourceType}`);
    this.terraformResourceType = config.terraformResourceType;
    this.terraformGeneratorMetadata = config.terraformGeneratorMetadata;
    this.#meta = config;
    if (config.count !== undefined && config.forEach) fail(this, 'give count or forEach, not both');
  }

  /** Refers to an attribute. Terraform takes it only where nothing is kept: providers, provisioners, write-only arguments. */
  getStringAttribute(attribute: string): string {
    const all = this.#meta.forEach ? '.*' : '';
    return Token.asString(
      ref(`ephemeral.${this.terraformResourceType}.${this.friendlyUniqueId}${all}.${attribute}`, this.cdktfStack),
    );
  }

  protected synthesizeAttributes(): Record<string, unknown> {
    return {};
  }

  protected synthesizeHclAttributes(): Record<string, unknown> {
    return {};
  }

  override toTerraform(): Record<string, unknown> {
    const { dependsOn, count, forEach, lifecycle, provider } = this.#meta;
    const block = {
      ...this.synthesizeAttributes(),
      depends_on: dependsOn?.map(dependable),
      count: TerraformCount.isTerraformCount(count) ? count.toTerraform() : count,
      for_each: forEach?._getForEachExpression(),
      lifecycle: lifecycle && {
        precondition: lifecycle.precondition?.map(conditionToTerraform),
        postcondition: lifecycle.postcondition?.map(conditionToTerraform),
      },
      provider: provider?.fqn,
      ...(this.rawOverrides as Record<string, unknown>),
      '//': this.constructNodeMetadata,
    };
    return { ephemeral: { [this.terraformResourceType]: { [this.friendlyUniqueId]: block } } };
  }

  /** What cdktf makes HCL of does not know ephemeral resources, and would leave this out without a word. @throws Error */
  override toHclTerraform(): never {
    return fail(this, 'cdktf writes ephemeral resources in JSON only, not in HCL; cdktn writes both');
  }
}
