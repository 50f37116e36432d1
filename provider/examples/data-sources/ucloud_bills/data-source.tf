data "ucloud_billing_account" "example" {
  name = "example"
}

data "ucloud_bills" "example" {
  billing_account = data.ucloud_billing_account.example.id
}

output "numbers" {
  value = data.ucloud_bills.example.bills[*].number
}
