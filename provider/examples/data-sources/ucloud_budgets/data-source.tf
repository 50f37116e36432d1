data "ucloud_budgets" "all" {}

output "limits" {
  value = { for each in data.ucloud_budgets.all.budgets : coalesce(each.project, each.billing_account) => each.max_monthly_cost }
}
