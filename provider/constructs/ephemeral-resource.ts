/**
 * Ephemeral resources for cdktf, which does not support them: a Terraform element that writes an `ephemeral` block.
 * cdktn has a class with the same name and replaces this one there, so the generated subclasses fit both.
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

/** The meta-arguments of an ephemeral resource. */
export interface TerraformEphemeralMetaArguments {
  /** The resources that must exist before Terraform opens this one. */
  readonly dependsOn?: ITerraformDependable[];
  /**
   * The number of resources, known at the latest in the plan. Not together with `forEach`.
   * @default a single resource, not a list
   */
  readonly count?: number | TerraformCount;
  /** An iterator: Terraform opens one resource for each element. Not together with `count`. */
  readonly forEach?: ITerraformIterator;
  /** The conditions. Terraform supports no other lifecycle arguments here. */
  readonly lifecycle?: Pick<TerraformResourceLifecycle, 'precondition' | 'postcondition'>;
  /**
   * The provider.
   * @default the provider without an alias
   */
  readonly provider?: TerraformProvider;
}

/** The configuration of an ephemeral resource. */
export interface TerraformEphemeralResourceConfig extends TerraformEphemeralMetaArguments {
  readonly terraformResourceType: string;
  readonly terraformGeneratorMetadata?: TerraformProviderGeneratorMetadata;
}

type Condition = NonNullable<TerraformResourceLifecycle['precondition' | 'postcondition']>[number];
const conditionToTerraform = ({ condition, errorMessage }: Condition) => ({ condition, error_message: errorMessage });

/** An ephemeral resource. */
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

  /**
   * Returns a reference to an attribute. Terraform accepts it only in places without storage: providers, provisioners,
   * and write-only arguments.
   */
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

  /**
   * Rejects HCL: cdktf's HCL writer does not know ephemeral resources and would silently omit this one.
   * @throws Error always
   */
  override toHclTerraform(): never {
    return fail(this, 'cdktf writes ephemeral resources in JSON only, not in HCL; cdktn writes both');
  }
}
