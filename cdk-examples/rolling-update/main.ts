/**
 * Three servers that never share a host. New user data restarts them one after the other: Terraform waits until
 * ucloud-init in the restarted guest has reported that it is ready. The cloud stores the Terraform state and locks it
 * during an apply, so a pipeline and its team can share it.
 *
 *   UCLOUD_ENDPOINT=https://cloud.example.net:7780 node main.ts
 *   export TF_HTTP_USERNAME=ucloud TF_HTTP_PASSWORD="$UCLOUD_TOKEN"     for the state
 *   terraform -chdir=cdktf.out/stacks/rolling-update init
 *   terraform -chdir=cdktf.out/stacks/rolling-update apply -var=release=1
 */
import { UcloudProvider, VmGroup } from '@ucloud/provider/constructs';
import { App, HttpBackend, TerraformOutput, TerraformStack, TerraformVariable } from 'cdktf';
import type { Construct } from 'constructs';

class RollingUpdate extends TerraformStack {
  constructor(scope: Construct, id: string, endpoint: string) {
    super(scope, id);
    new UcloudProvider(this, 'ucloud', { endpoint });
    const state = `${endpoint}/v1/terraform-states/${id}`;
    new HttpBackend(this, {
      address: state,
      lockAddress: `${state}/lock`,
      unlockAddress: `${state}/lock`,
      lockMethod: 'POST',
      unlockMethod: 'DELETE',
    });
    const release = new TerraformVariable(this, 'release', {
      type: 'string',
      description: 'The release that the servers run.',
    });

    const servers = new VmGroup(this, 'server', {
      image: 'demo',
      members: ['a', 'b', 'c'],
      spread: 'required',
      userData: `#!/bin/sh\necho 'RELEASE=${release.stringValue}' > /etc/release\n`,
      userDataChange: 'restart',
      waitFor: 'ready',
      rolling: true,
    });
    new TerraformOutput(this, 'addresses', { value: servers.addresses });
    new TerraformOutput(this, 'hosts', { value: servers.hosts });
  }
}

const app = new App();
new RollingUpdate(app, 'rolling-update', process.env.UCLOUD_ENDPOINT ?? 'http://[::1]:7780');
app.synth();
