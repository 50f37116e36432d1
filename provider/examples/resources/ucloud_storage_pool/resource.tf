# Needs a token of an operator. The directory must exist on the hosts.
resource "ucloud_storage_pool" "fast" {
  name = "fast"
  kind = "local"
  path = "/srv/fast"
}

resource "ucloud_volume" "scratch" {
  name = "scratch"
  size = "20GiB"
  pool = ucloud_storage_pool.fast.id
}
