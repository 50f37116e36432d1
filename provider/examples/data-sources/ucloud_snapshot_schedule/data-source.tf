data "ucloud_snapshot_schedule" "this" {
  name = "example"
}
