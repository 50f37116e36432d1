import t from 'tap';
import { startTestCloud } from '../support/cloud-nohost.ts';
t.test('x', async (t) => {
  const cloud = await startTestCloud(t);
  const d = cloud.configuration(t, `
data "ucloud_image" "demo" { name = "demo" }
resource "ucloud_ssh_key" "a" {
  name = "alice"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T test@example"
}
resource "ucloud_prefix" "p" {
  name = "p"
  cidr = "2001:DB8:0::/56"
}
resource "ucloud_network" "n" {
  name = "n"
  prefix = ucloud_prefix.p.id
  dns_servers = ["2001:DB8::53"]
}
resource "ucloud_vm" "v" {
  count = 3
  name = "v\${count.index}"
  image = data.ucloud_image.demo.id
  memory = "2048MiB"
  interfaces = [{network = ucloud_network.n.id}]
  ssh_keys = [ucloud_ssh_key.a.id]
  wait_for = "none"
}
output "a" { value = ucloud_vm.v[*].address }
`);
  console.log((await d.plan()).text);
  console.log(await d.apply());
  console.log(await d.pending());
  console.log(await d.outputs());
  console.log(await d.destroy());
});
