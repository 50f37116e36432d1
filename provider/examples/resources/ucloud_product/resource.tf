# Needs a token of an operator.
resource "ucloud_product" "cpu" {
  name        = "cpu"
  meter       = "vm_cpu"
  description = "Virtual processor"
}
