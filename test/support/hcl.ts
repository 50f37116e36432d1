/** Configuration in Terraform's language that several tests and benches stand on. */

interface ImageAndNetwork {
  /** Of the prefix. */
  readonly name?: string;
  /** Of the network. */
  readonly network?: string;
  /** Of the prefix; else the API chooses. */
  readonly cidr?: string;
}

/** The public image of a cloud, as `data.ucloud_image.demo`. */
export const demoImage = `
data "ucloud_image" "demo" {
  name = "demo"
}
`;

/** The image, and a prefix with a network in it, all called `this`; VMs refer to them. */
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

export const ground = imageAndNetwork({ network: 'web' });

/** A VM on that ground; `name` is an expression, that of the block where it is left out. */
export const vmBlock = (block: string, more = '', name = `"${block}"`, network = 'ucloud_network.this.id'): string => `
resource "ucloud_vm" "${block}" {
  name       = ${name}
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ${network} }]
  ${more}
}
`;
