data "ucloud_billing_account" "this" {
  name = "example"
}

output "currency" {
  value = data.ucloud_billing_account.this.currency
}
