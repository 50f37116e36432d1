data "ucloud_image" "demo" {
  name = "demo"
}

resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 60
}

resource "ucloud_network" "db" {
  name   = "db"
  prefix = ucloud_prefix.site.id
}

# The volume keeps its data when its VM is replaced or destroyed. In production, add `delete_protection = true`.
resource "ucloud_volume" "data" {
  name     = "db-data"
  size     = "20GiB"
  max_iops = 2000
}

# This volume begins with the content of an image.
resource "ucloud_volume" "copy" {
  name  = "demo-copy"
  size  = "10GiB"
  image = data.ucloud_image.demo.id
}

resource "ucloud_vm" "db" {
  name       = "db-1"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.db.id }]
  volumes    = [ucloud_volume.data.id]
}

# This volume begins with the data of another one, at the instant of its creation. The source has data from its first VM on.
resource "ucloud_volume" "clone" {
  name          = "db-data-copy"
  size          = "20GiB"
  source_volume = ucloud_volume.data.id

  depends_on = [ucloud_vm.db]
}
