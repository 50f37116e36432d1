# Needs a token of an operator. A price never changes: another one follows with a later `valid_from`.
resource "ucloud_price" "cpu" {
  product     = ucloud_product.cpu.id
  currency    = "CHF"
  amount      = "0.0125"
  per         = "hour"
  monthly_cap = "8"
}

resource "ucloud_product" "cpu" {
  name  = "cpu"
  meter = "vm_cpu"
}
