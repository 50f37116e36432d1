# The project's own image of that name, or else the public one.
data "ucloud_image" "demo" {
  name = "demo"
}

output "image_size" {
  value = data.ucloud_image.demo.size
}
