data "ucloud_prices" "all" {}

output "prices" {
  value = data.ucloud_prices.all.prices[*].amount
}
