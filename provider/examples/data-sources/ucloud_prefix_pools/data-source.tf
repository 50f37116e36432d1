data "ucloud_prefix_pools" "all" {}
