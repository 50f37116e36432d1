data "ucloud_storage_pool" "this" {
  name = "example"
}
