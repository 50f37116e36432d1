# Needs a token of an operator.
resource "ucloud_product" "cpu" {
  name        = "cpu"
  meter       = "vm_cpu"
  description = "Virtual processor"
}

# Each VM includes the first 20 GiB of its disk. The product of the meter `vm_disk` charges the rest.
resource "ucloud_product" "vm" {
  name     = "vm"
  meter    = "vm"
  includes = [{ meter = "vm_disk", quantity = 20 * 1024 * 1024 * 1024 }]
}
