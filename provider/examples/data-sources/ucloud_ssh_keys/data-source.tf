# The VM accepts all SSH keys of the project.
data "ucloud_ssh_keys" "team" {}

output "ssh_keys" {
  value = data.ucloud_ssh_keys.team.ids
}
