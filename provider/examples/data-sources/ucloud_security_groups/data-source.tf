data "ucloud_security_groups" "all" {}

output "security_groups" {
  value = data.ucloud_security_groups.all.security_groups[*].name
}
