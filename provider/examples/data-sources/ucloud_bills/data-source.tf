data "ucloud_bills" "all" {}

output "numbers" {
  value = data.ucloud_bills.all.bills[*].number
}
