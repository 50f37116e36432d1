data "ucloud_volumes" "all" {}

output "sizes" {
  value = data.ucloud_volumes.all.volumes[*].size
}
