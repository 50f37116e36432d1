# All images that VMs of the project can use, with the public images.
data "ucloud_images" "all" {}

output "images" {
  value = [for image in data.ucloud_images.all.images : image.name if image.status.phase == "available"]
}
