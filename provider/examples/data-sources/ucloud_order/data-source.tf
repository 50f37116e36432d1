data "ucloud_orders" "all" {}

# An order has no name.
data "ucloud_order" "this" {
  id = data.ucloud_orders.all.orders[0].id
}
