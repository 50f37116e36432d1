resource "ucloud_image" "debian" {
  name        = "debian-13"
  description = "With our monitoring agent."
  # A file in the project's directory of files on the server; an https:// URL needs its sha256, too.
  source = "file:debian-13.qcow2"

  timeouts = {
    create = "1h"
  }
}
