data "ucloud_product" "this" {
  name = "cpu"
}

output "meter" {
  value = data.ucloud_product.this.meter
}
