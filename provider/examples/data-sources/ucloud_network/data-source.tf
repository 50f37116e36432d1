data "ucloud_network" "this" {
  name = "example"
}
