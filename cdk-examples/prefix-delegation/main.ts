/**
 * One /48 for a company, a /56 of it for each department, a /64 of that for each of its networks. Departments plan their
 * part on their own: what one of them adds never moves what another has.
 *
 *     node cdk-examples/prefix-delegation/main.ts     writes cdktf.out/stacks/prefix-delegation/cdk.tf.json
 */
import { Network, PrefixPlan, type Subnet, UcloudProvider, VirtualMachine } from '@ucloud/provider/constructs';
import { App, TerraformOutput, TerraformStack } from 'cdktf';
import { Construct } from 'constructs';

/** What a department makes of the space that it was given. */
class Department extends Construct {
  readonly cidrs: Record<string, string>;

  constructor(scope: Construct, id: string, space: Subnet, networks: readonly string[]) {
    super(scope, id);
    const plan = new PrefixPlan(this, 'plan', { within: space, subnets: networks });
    this.cidrs = {};
    for (const subnet of plan.subnets) {
      const name = `${id}-${subnet.name}`;
      const network = new Network(this, subnet.name, { name, subnet });
      new VirtualMachine(network, 'first', { name: `${name}-1`, image: 'demo', network });
      this.cidrs[subnet.name] = network.cidr;
    }
  }
}

class Company extends TerraformStack {
  constructor(scope: Construct, id: string) {
    super(scope, id);
    new UcloudProvider(this, 'ucloud');
    const company = new PrefixPlan(this, 'company', {
      length: 48,
      subnets: [
        { name: 'sales', length: 56 },
        // It closed. What is behind it stays where it is.
        { name: 'fax', length: 56, retired: true },
        { name: 'research', length: 56 },
      ],
    });
    const sales = new Department(this, 'sales', company.subnet('sales'), ['shop', 'office']);
    const research = new Department(this, 'research', company.subnet('research'), ['lab', 'office', 'guests']);
    new TerraformOutput(this, 'company_cidr', { value: company.cidr });
    new TerraformOutput(this, 'cidrs', { value: { sales: sales.cidrs, research: research.cidrs } });
  }
}

const app = new App();
new Company(app, 'prefix-delegation');
app.synth();
