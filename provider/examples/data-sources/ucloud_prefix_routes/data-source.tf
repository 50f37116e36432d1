data "ucloud_prefix_routes" "all" {}

output "prefix_routes" {
  value = data.ucloud_prefix_routes.all.prefix_routes[*].cidr
}
