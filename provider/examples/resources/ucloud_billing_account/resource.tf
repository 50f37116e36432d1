# Needs a token of an operator.
resource "ucloud_billing_account" "acme" {
  name         = "acme"
  currency     = "CHF"
  legal_entity = data.ucloud_legal_entity.example.id
  legal_name   = "ACME AG"
  address = {
    street   = "Industriestrasse 7"
    postcode = "8005"
    city     = "Zürich"
    country  = "CH"
  }
  email = "accounting@acme.example"
}

data "ucloud_legal_entity" "example" {
  name = "example"
}
