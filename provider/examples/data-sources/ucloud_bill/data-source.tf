data "ucloud_bills" "all" {}

# A bill has no name.
data "ucloud_bill" "this" {
  id = data.ucloud_bills.all.bills[0].id
}
