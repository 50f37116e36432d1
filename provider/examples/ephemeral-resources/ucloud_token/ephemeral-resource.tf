# Opens the project for as long as Terraform runs.
ephemeral "ucloud_token" "run" {
  role     = "viewer"
  lifetime = "30m"
}

# As the configuration of a provider, here of ucloud itself.
provider "ucloud" {
  alias = "viewer"
  token = ephemeral.ucloud_token.run.secret
}

data "ucloud_vms" "all" {
  provider = ucloud.viewer
}
