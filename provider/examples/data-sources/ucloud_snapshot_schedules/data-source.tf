data "ucloud_snapshot_schedules" "all" {}

output "snapshot_schedules" {
  value = data.ucloud_snapshot_schedules.all.snapshot_schedules[*].name
}
