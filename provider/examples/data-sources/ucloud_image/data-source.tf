# The image with this name in the project, otherwise the public image.
data "ucloud_image" "demo" {
  name = "demo"
}

output "image_size" {
  value = data.ucloud_image.demo.size
}
