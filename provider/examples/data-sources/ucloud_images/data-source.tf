# All images that one may start VMs from, public ones included.
data "ucloud_images" "all" {}

output "images" {
  value = [for image in data.ucloud_images.all.images : image.name if image.status.phase == "available"]
}
