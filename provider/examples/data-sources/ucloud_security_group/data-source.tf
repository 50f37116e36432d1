data "ucloud_security_group" "example" {
  name = "example"
}
