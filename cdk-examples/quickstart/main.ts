/**
 * Two VMs on one network, reachable by ssh.
 *
 *   node cdk-examples/quickstart/main.ts     writes cdktf.out/stacks/quickstart/cdk.tf.json
 *
 * Then run Terraform in that directory: `terraform init`, `terraform apply`.
 */
import { UcloudProvider, VirtualMachine } from '@ucloud/provider/constructs';
import { App, TerraformOutput, TerraformStack, TerraformVariable } from 'cdktf';
import type { Construct } from 'constructs';

class Quickstart extends TerraformStack {
  constructor(scope: Construct, id: string) {
    super(scope, id);
    // The endpoint and the token come from the environment, or from the credentials file of `ucloud login`.
    new UcloudProvider(this, 'ucloud');
    const key = new TerraformVariable(this, 'public_key', {
      type: 'string',
      description: 'Public SSH key that may log in, in the format of OpenSSH.',
    });

    const web = new VirtualMachine(this, 'web', { image: 'demo', publicKeys: [key.stringValue] });
    const db = new VirtualMachine(this, 'db', { image: 'demo', network: web.network, sshKeys: web.ownKeys });
    new TerraformOutput(this, 'addresses', { value: { web: web.address, db: db.address } });
  }
}

const app = new App();
new Quickstart(app, 'quickstart');
app.synth();
