data "ucloud_snapshot" "this" {
  name = "example"
}
