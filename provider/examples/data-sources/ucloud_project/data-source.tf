data "ucloud_project" "this" {
  name = "example"
}
