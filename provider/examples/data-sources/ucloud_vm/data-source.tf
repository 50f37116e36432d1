data "ucloud_vm" "this" {
  name = "example"
}
