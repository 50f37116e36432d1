data "ucloud_billing_accounts" "all" {}

output "names" {
  value = data.ucloud_billing_accounts.all.billing_accounts[*].name
}
