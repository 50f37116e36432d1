data "ucloud_prefixes" "all" {}

output "cidrs" {
  value = data.ucloud_prefixes.all.prefixes[*].cidr
}
