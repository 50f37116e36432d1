data "ucloud_product" "this" {
  name = "example"
}

output "meter" {
  value = data.ucloud_product.this.meter
}
