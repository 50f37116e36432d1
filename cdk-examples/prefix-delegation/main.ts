/**
 * A company has a /48, each department has a /56 of it, and each network of a department has a /64 of that. The
 * departments plan their parts independently: a change in one department never moves the networks of another.
 *
 *   node cdk-examples/prefix-delegation/main.ts     writes cdktf.out/stacks/prefix-delegation/cdk.tf.json
 */
import { Network, PrefixPlan, type Subnet, UcloudProvider, VirtualMachine } from '@ucloud/provider/constructs';
import { App, TerraformOutput, TerraformStack } from 'cdktf';
import { Construct } from 'constructs';

/** A department: the networks in its part of the prefix, with one VM in each. */
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
        // The department has closed. `retired` keeps its place, so that later subnets do not move.
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
