resource "ucloud_file" "appliance" {
  source = "${path.module}/appliance.qcow2"
}

# An image of the file. A change of the content makes another image.
resource "ucloud_image" "appliance" {
  name   = "appliance"
  source = "file:${ucloud_file.appliance.name}"

  lifecycle {
    replace_triggered_by = [ucloud_file.appliance.sha256]
  }
}
