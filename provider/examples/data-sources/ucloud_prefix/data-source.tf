data "ucloud_prefix" "this" {
  name = "example"
}
