data "ucloud_prefix_pool" "this" {
  name = "example"
}
