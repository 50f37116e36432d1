resource "ucloud_token" "ci" {
  name = "ci"
  role = "member"
}

# The API shows the secret only at the creation. The state contains it.
output "ci_token" {
  value     = ucloud_token.ci.secret
  sensitive = true
}
