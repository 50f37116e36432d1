# Needs a token of an operator. A price never changes: another one follows with a later `valid_from`.
resource "ucloud_price" "memory" {
  product     = ucloud_product.memory.id
  currency    = "CHF"
  amount      = "0.0125"
  per         = "hour"
  monthly_cap = "8"
  valid_from  = "2031-01-01T00:00:00Z"
}

resource "ucloud_product" "memory" {
  name  = "memory"
  meter = "vm_memory"
}
