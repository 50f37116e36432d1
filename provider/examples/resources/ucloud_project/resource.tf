# Needs a token of an operator.
resource "ucloud_project" "acme" {
  name              = "acme"
  description       = "ACME Ltd."
  delete_protection = false

  quota = {
    vms    = 20
    memory = "64GiB"
  }
}
