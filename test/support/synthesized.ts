/** The output of CDKTF constructs, in a form that tests compare. */
import { App, TerraformStack } from 'cdktf';
import { UcloudProvider } from '../../provider/constructs/index.ts';

export interface Synthesized {
  readonly data?: Record<string, Record<string, { name: string }>>;
  readonly output?: Record<string, { value: unknown }>;
  readonly resource: Record<string, Record<string, Record<string, unknown>>>;
}

export function synthesize(build: (stack: TerraformStack) => void): Synthesized {
  const stack = new TerraformStack(new App(), 'test');
  new UcloudProvider(stack, 'ucloud');
  build(stack);
  return stack.toTerraform() as Synthesized;
}

/** The resources and data sources by their Terraform addresses, without what cdktf notes about itself. */
export function objects({ resource = {}, data = {} }: Partial<Synthesized>): Record<string, unknown> {
  const flat = (kinds: Record<string, Record<string, object>>, prefix: string) =>
    Object.entries(kinds).flatMap(([type, named]) =>
      Object.entries(named).map(([name, object]) => {
        const { '//': _metadata, ...attributes } = object as Record<string, unknown>;
        return [`${prefix}${type}.${name}`, attributes];
      }),
    );
  return Object.fromEntries([...flat(resource, ''), ...flat(data, 'data.')]);
}
export const built = (build: (stack: TerraformStack) => void) => objects(synthesize(build));
export const only = <T>(of: Record<string, T> | undefined): T => {
  const [first, ...more] = Object.values(of ?? {});
  if (first === undefined || more.length > 0) throw new Error(`expected one, got ${Object.keys(of ?? {}).length}`);
  return first;
};
