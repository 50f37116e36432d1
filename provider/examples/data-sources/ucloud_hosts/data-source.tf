# Needs a token of an operator.
data "ucloud_hosts" "all" {}

output "hosts_in_use" {
  value = [for host in data.ucloud_hosts.all.hosts : host.name if !host.draining]
}
