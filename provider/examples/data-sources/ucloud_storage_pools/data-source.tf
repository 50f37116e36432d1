data "ucloud_storage_pools" "all" {}

output "kinds" {
  value = { for pool in data.ucloud_storage_pools.all.storage_pools : pool.name => pool.kind }
}
