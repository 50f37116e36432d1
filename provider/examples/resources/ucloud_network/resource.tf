resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 60
}

# The first free /64 of the prefix. The network announces the DNS resolvers to its VMs.
resource "ucloud_network" "web" {
  name        = "web"
  prefix      = ucloud_prefix.site.id
  dns_servers = ["2001:db8::53", "2001:db8::54"]
}

# The subnet f of the prefix.
resource "ucloud_network" "management" {
  name   = "management"
  prefix = ucloud_prefix.site.id
  cidr   = provider::ucloud::subnet(ucloud_prefix.site.cidr, 64, 15)
}
