data "ucloud_token" "this" {
  name = "example"
}
