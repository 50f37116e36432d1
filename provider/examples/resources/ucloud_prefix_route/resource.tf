data "ucloud_image" "demo" {
  name = "demo"
}

resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 56
}

resource "ucloud_network" "web" {
  name   = "web"
  prefix = ucloud_prefix.site.id
}

resource "ucloud_vm" "router" {
  name       = "router-1"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.web.id }]
}

# The first free /60 of the prefix. The VM gives it to its containers.
resource "ucloud_prefix_route" "containers" {
  name   = "containers"
  prefix = ucloud_prefix.site.id
  length = 60
  vm     = ucloud_vm.router.id
}

output "containers" {
  value = ucloud_prefix_route.containers.cidr
}
