# Two VMs on an IPv6 network of their own, reachable by ssh: terraform init, terraform apply.

terraform {
  required_version = ">= 1.11"
  required_providers {
    ucloud = {
      source = "ucloud.localhost/ucloud/ucloud"
    }
  }
}

# Endpoint and token come from the environment or from the credentials file that `ucloud login` writes.
provider "ucloud" {}

variable "image" {
  description = "Name of the image that the VMs start from."
  type        = string
  default     = "demo"
}

variable "public_key" {
  description = "Public SSH key that may log in as user ucloud. Default: ~/.ssh/id_ed25519.pub."
  type        = string
  default     = null
}

variable "vms" {
  description = "The VMs, by name, with their main memory."
  type        = map(string)
  default = {
    web = "256MiB"
    db  = "256MiB"
  }
}

data "ucloud_image" "this" {
  name = var.image
}

resource "ucloud_ssh_key" "me" {
  name       = "quickstart"
  public_key = var.public_key != null ? var.public_key : trimspace(file(pathexpand("~/.ssh/id_ed25519.pub")))
}

resource "ucloud_prefix" "site" {
  name   = "quickstart"
  length = 56
}

resource "ucloud_network" "main" {
  name   = "quickstart"
  prefix = ucloud_prefix.site.id
}

resource "ucloud_vm" "this" {
  for_each = var.vms

  name       = each.key
  memory     = each.value
  image      = data.ucloud_image.this.id
  interfaces = [{ network = ucloud_network.main.id }]
  ssh_keys   = [ucloud_ssh_key.me.id]
  wait_for   = "ready"
}

output "addresses" {
  description = "IPv6 address of each VM: ssh ucloud@<address>."
  value       = { for name, vm in ucloud_vm.this : name => vm.address }
}
