# Needs a token of an operator.
data "ucloud_host" "this" {
  name = "example"
}

output "free_memory" {
  value = data.ucloud_host.this.capacity.memory - data.ucloud_host.this.allocated.memory
}
