terraform {
  required_version = ">= 1.11"
  required_providers {
    ucloud = {
      # The host name of your cloud. `ucloud.localhost` is the host name of a provider that this machine built.
      source = "ucloud.localhost/ucloud/ucloud"
    }
  }
}

# Endpoint and token come from the environment (UCLOUD_ENDPOINT, UCLOUD_TOKEN) or from the credentials file that
# `ucloud login` writes, so that neither needs to be here.
provider "ucloud" {}
