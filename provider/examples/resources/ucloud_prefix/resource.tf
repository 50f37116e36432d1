# The first free /56 of the cloud.
resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 56
  labels = { site = "a" }
}

# Its cidr can be cut into further pieces.
output "third_network" {
  value = provider::ucloud::subnet(ucloud_prefix.site.cidr, 64, 2)
}
