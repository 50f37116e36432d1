data "ucloud_budgets" "all" {}

# A budget has no name.
data "ucloud_budget" "this" {
  id = data.ucloud_budgets.all.budgets[0].id
}
