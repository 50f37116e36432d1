# Whoever has a key in the project may log in.
data "ucloud_ssh_keys" "team" {}

output "ssh_keys" {
  value = data.ucloud_ssh_keys.team.ids
}
