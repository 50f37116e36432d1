# Needs a token of an operator.
resource "ucloud_legal_entity" "switzerland" {
  name       = "switzerland"
  legal_name = "Example Cloud AG"
  address = {
    street   = "Bahnhofstrasse 1"
    postcode = "8750"
    city     = "Glarus"
    country  = "CH"
  }
  vat_number    = "CHE-107.787.577 MWST"
  email         = "billing@example.com"
  number_series = "UC-"
  phone         = "+41 55 505 62 65"
  iban          = "CH93 0076 2011 6238 5295 7"
}
