data "ucloud_networks" "production" {
  selector = "env in (prod, staging)"
}
