data "ucloud_ssh_key" "this" {
  name = "example"
}
