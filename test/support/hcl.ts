/** Common configuration for tests and benches, in Terraform's language. */

interface ImageAndNetwork {
  /** The name of the prefix. */
  readonly name?: string;
  /** The name of the network. */
  readonly network?: string;
  /** The cidr of the prefix. Default: the API chooses it. */
  readonly cidr?: string;
}

/** The public image of a cloud: `data.ucloud_image.demo`. */
export const demoImage = `
data "ucloud_image" "demo" {
  name = "demo"
}
`;

/** Returns the prerequisites of VMs: the image, and a prefix with a network, all with the label `this`. */
export const imageAndNetwork = ({ name = 'site', network = name, cidr }: ImageAndNetwork): string => `${demoImage}
resource "ucloud_prefix" "this" {
  name = "${name}"
  cidr = ${cidr === undefined ? 'null' : `"${cidr}"`}
}
resource "ucloud_network" "this" {
  name   = "${network}"
  prefix = ucloud_prefix.this.id
}
`;

export const prerequisites = imageAndNetwork({ network: 'web' });

/** Returns a VM with these prerequisites. `name` is an expression. Default: the label of the block. */
export const vmBlock = (block: string, more = '', name = `"${block}"`, network = 'ucloud_network.this.id'): string => `
resource "ucloud_vm" "${block}" {
  name       = ${name}
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ${network} }]
  ${more}
}
`;
