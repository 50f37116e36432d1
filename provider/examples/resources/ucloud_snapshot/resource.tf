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

resource "ucloud_volume" "data" {
  name = "db-data"
  size = "20GiB"
}

resource "ucloud_vm" "db" {
  name       = "db-1"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.db.id }]
  volumes    = [ucloud_volume.data.id]
}

# All disks of the VM at the same instant.
resource "ucloud_snapshot" "before_update" {
  name = "before-update"
  vm   = ucloud_vm.db.id
}

# An image of the disk of the VM, for VMs on any host.
resource "ucloud_image" "golden" {
  name          = "db-golden"
  snapshot      = ucloud_snapshot.before_update.id
  snapshot_disk = "root"
}

# A new volume with the data of the disk of the VM.
resource "ucloud_volume" "restored" {
  name          = "db-root-restored"
  size          = ucloud_vm.db.disk_size
  snapshot      = ucloud_snapshot.before_update.id
  snapshot_disk = "root"
}
