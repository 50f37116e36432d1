data "ucloud_volume_attachments" "all" {}

# An attachment has no name.
data "ucloud_volume_attachment" "this" {
  id = data.ucloud_volume_attachments.all.volume_attachments[0].id
}
