data "ucloud_prefix_route" "this" {
  name = "example"
}
