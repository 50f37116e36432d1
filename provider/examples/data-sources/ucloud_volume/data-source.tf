data "ucloud_volume" "this" {
  name = "example"
}
