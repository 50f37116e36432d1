# Needs a token of an operator.
data "ucloud_file_servers" "all" {}

output "servers" {
  value = [for server in data.ucloud_file_servers.all.file_servers : server.name if server.status.phase == "available"]
}
