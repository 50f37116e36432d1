# Needs a token of an operator.
resource "ucloud_prefix_pool" "main" {
  name           = "main-2"
  cidr           = "2001:db8:f000::/36"
  default_length = 56
}
