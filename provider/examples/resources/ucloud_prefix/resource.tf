# The first free /56 of the cloud.
resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 56
  labels = { site = "a" }
}

# A configuration can divide the cidr into subnets.
output "third_network" {
  value = provider::ucloud::subnet(ucloud_prefix.site.cidr, 64, 2)
}
