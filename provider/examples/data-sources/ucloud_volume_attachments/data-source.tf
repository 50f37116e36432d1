data "ucloud_volume_attachments" "all" {}

output "devices" {
  value = data.ucloud_volume_attachments.all.volume_attachments[*].device
}
