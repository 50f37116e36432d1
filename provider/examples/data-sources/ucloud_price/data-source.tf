data "ucloud_prices" "all" {}

# A price has no name.
data "ucloud_price" "this" {
  id = data.ucloud_prices.all.prices[0].id
}
