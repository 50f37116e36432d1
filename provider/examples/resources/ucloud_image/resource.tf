resource "ucloud_image" "debian" {
  name        = "debian-13"
  description = "With our monitoring agent."
  # A file in the project's directory on the server. An https:// URL also needs `sha256` or `sha512`.
  source = "file:debian-13.qcow2"

  timeouts = {
    create = "1h"
  }
}
