data "ucloud_bgp_peer" "this" {
  name = "example"
}
