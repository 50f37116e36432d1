# The token is valid while Terraform runs.
ephemeral "ucloud_token" "run" {
  role     = "viewer"
  lifetime = "30m"
}

# A provider may use the token, here ucloud itself.
provider "ucloud" {
  alias = "viewer"
  token = ephemeral.ucloud_token.run.secret
}

data "ucloud_vms" "all" {
  provider = ucloud.viewer
}
