data "ucloud_image" "demo" {
  name = "demo"
}

# Everyone reaches the web servers at these ports. The web servers reach each other at all ports.
resource "ucloud_security_group" "web" {
  name = "web"
  rules = [
    { direction = "ingress", protocol = "tcp", ports = ["80", "443"], prefixes = ["::/0"] },
    { direction = "ingress", protocol = "icmpv6", icmp_types = [128], prefixes = ["::/0"] },
    { direction = "ingress", protocol = "any", self = true },
  ]
  vm_selector = "tier=front"
}

# An interface names this group itself.
resource "ucloud_security_group" "metrics" {
  name = "metrics"
  rules = [
    { direction = "ingress", protocol = "tcp", ports = ["9100"], vm_selector = "tier=monitoring" },
  ]
}

# Only the web servers reach the databases. A database opens no connections itself.
resource "ucloud_security_group" "database" {
  name           = "database"
  default_egress = "deny"
  rules = [
    { direction = "ingress", protocol = "tcp", ports = ["5432"], security_group = ucloud_security_group.web.id },
  ]
}

resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 56
}

# Interfaces without a group of their own get that of the network.
resource "ucloud_network" "database" {
  name                    = "database"
  prefix                  = ucloud_prefix.site.id
  default_security_groups = [ucloud_security_group.database.id]
}

resource "ucloud_network" "web" {
  name   = "web"
  prefix = ucloud_prefix.site.id
}

resource "ucloud_vm" "web" {
  name       = "front-1"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.web.id, security_groups = [ucloud_security_group.metrics.id] }]
  labels     = { tier = "front" }
}
