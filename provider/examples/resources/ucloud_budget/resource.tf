# Needs a token of an operator. A budget is for a project, or for all projects of a billing account.
resource "ucloud_budget" "shop" {
  project          = ucloud_project.shop.id
  max_monthly_cost = "200"
}

resource "ucloud_project" "shop" {
  name            = "shop"
  billing_account = data.ucloud_billing_account.example.id
}

data "ucloud_billing_account" "example" {
  name = "example"
}
