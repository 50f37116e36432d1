resource "ucloud_token" "ci" {
  name = "ci"
  role = "member"
}

# Shown once, when it is made; from then on it is in the state.
output "ci_token" {
  value     = ucloud_token.ci.secret
  sensitive = true
}
