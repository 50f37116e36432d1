data "ucloud_billing_account" "this" {
  name = "acme"
}

output "currency" {
  value = data.ucloud_billing_account.this.currency
}
