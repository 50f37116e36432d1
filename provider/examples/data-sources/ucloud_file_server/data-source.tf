# Needs a token of an operator.
data "ucloud_file_server" "this" {
  name = "example"
}

output "phase" {
  value = data.ucloud_file_server.this.status.phase
}
