# Needs a token of an operator. VMs and other objects need no such resource: their creation is the order.
resource "ucloud_order" "migration" {
  project     = data.ucloud_project.example.id
  product     = ucloud_product.hour.id
  quantity    = 3
  description = "Migration of the old servers"
}

resource "ucloud_product" "hour" {
  name        = "hour"
  meter       = "booked"
  description = "Hour of work"
}

data "ucloud_project" "example" {
  name = "example"
}
