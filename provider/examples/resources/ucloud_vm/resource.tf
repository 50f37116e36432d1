data "ucloud_image" "demo" {
  name = "demo"
}

resource "ucloud_ssh_key" "alice" {
  name       = "alice"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T alice@example"
}

resource "ucloud_prefix" "site" {
  name   = "site-a"
  length = 60
}

resource "ucloud_network" "web" {
  name   = "web"
  prefix = ucloud_prefix.site.id
}

resource "ucloud_vm" "web" {
  name       = "web-1"
  image      = data.ucloud_image.demo.id
  cpus       = 2
  memory     = "2GiB"
  disk_size  = "20GiB"
  interfaces = [{ network = ucloud_network.web.id }]
  ssh_keys   = [ucloud_ssh_key.alice.id]
  labels     = { tier = "web" }
  wait_for   = "ready"

  user_data = <<-EOT
    #!/bin/sh
    echo "welcome to $(hostname)" > /etc/motd
  EOT
  # A change of the script restarts the VM. Without this line, it would replace the VM.
  user_data_change = "restart"

  timeouts = {
    create = "5m"
  }
}

# The plan already contains the address, so DNS records can use it.
output "reverse_name" {
  value = provider::ucloud::reverse_name(ucloud_vm.web.address)
}
