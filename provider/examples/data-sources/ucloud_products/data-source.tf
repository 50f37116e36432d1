data "ucloud_products" "all" {}

output "names" {
  value = data.ucloud_products.all.products[*].name
}
