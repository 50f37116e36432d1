/**
 * Web servers, application servers and a database. Each tier has its own network, and all networks are in one prefix.
 *
 *   node cdk-examples/three-tier/main.ts     writes cdktf.out/stacks/three-tier/cdk.tf.json
 *
 * After a change of a number, synthesize and apply again: only added or removed VMs are affected.
 */
import { Network, PrefixPlan, UcloudProvider, VirtualMachine, VmGroup } from '@ucloud/provider/constructs';
import { App, TerraformOutput, TerraformStack, TerraformVariable } from 'cdktf';
import type { Construct } from 'constructs';

interface Size {
  readonly web: number;
  readonly app: number;
}

class ThreeTier extends TerraformStack {
  constructor(scope: Construct, id: string, size: Size) {
    super(scope, id);
    new UcloudProvider(this, 'ucloud');
    const key = new TerraformVariable(this, 'public_key', {
      type: 'string',
      description: 'Public SSH key that may log in everywhere, in the format of OpenSSH.',
    });

    // Append a new tier to the list, so that the others keep their /64.
    const site = new PrefixPlan(this, 'site', { subnets: ['web', 'app', 'db'] });
    const network = (tier: string) => new Network(this, tier, { subnet: site.subnet(tier) });

    const image = 'demo';
    const db = new VirtualMachine(this, 'database', {
      name: 'db',
      image,
      network: network('db'),
      memory: '2GiB',
      diskSize: '20GiB',
      // The data stays when the VM is replaced. In production, add `deleteProtection: true`.
      dataDisks: { data: { size: '50GiB' } },
      labels: { tier: 'db' },
      publicKeys: [key.stringValue],
    });
    const apps = new VmGroup(this, 'application', {
      name: 'app',
      image,
      count: size.app,
      network: network('app'),
      sshKeys: db.ownKeys,
      labels: { tier: 'app' },
      userData: `#!/bin/sh\necho 'DATABASE=[${db.address}]' >> /etc/environment\n`,
    });
    const webs = new VmGroup(this, 'frontend', {
      name: 'web',
      image,
      count: size.web,
      // A failed host then stops one of the VMs, not all. With enough hosts, use 'required' to guarantee it.
      spread: 'preferred',
      network: network('web'),
      sshKeys: db.ownKeys,
      labels: { tier: 'web' },
    });
    new TerraformOutput(this, 'addresses', { value: { ...webs.addresses, ...apps.addresses, db: db.address } });
    new TerraformOutput(this, 'hosts', { value: { ...webs.hosts, ...apps.hosts } });
  }
}

const app = new App();
new ThreeTier(app, 'three-tier', { web: 2, app: 2 });
app.synth();
