data "ucloud_image" "demo" {
  name = "demo"
}

resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 60
}

resource "ucloud_network" "web" {
  name   = "web"
  prefix = ucloud_prefix.site.id
}

resource "ucloud_vm" "web" {
  name       = "web-1"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.web.id }]
}

resource "ucloud_volume" "data" {
  name = "web-data"
  size = "20GiB"
}

# A VM of the same configuration can have the volume in its argument `volumes` instead.
resource "ucloud_volume_attachment" "data" {
  vm     = ucloud_vm.web.id
  volume = ucloud_volume.data.id

  # A destroy stops the VM first, because a running guest cannot refuse to lose the volume.
  stop_vm_before_detaching = true
}

# The path of the device in the guest, such as /dev/disk/by-id/virtio-vol-0123456789abcdef.
output "device" {
  value = ucloud_volume_attachment.data.device
}
