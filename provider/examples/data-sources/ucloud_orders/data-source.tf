data "ucloud_orders" "all" {}

output "orders" {
  value = data.ucloud_orders.all.orders[*].opened_at
}
