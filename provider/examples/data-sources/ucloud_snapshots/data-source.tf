data "ucloud_snapshots" "all" {}

output "snapshots" {
  value = data.ucloud_snapshots.all.snapshots[*].name
}
