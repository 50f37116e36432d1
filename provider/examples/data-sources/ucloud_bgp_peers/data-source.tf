data "ucloud_bgp_peers" "all" {}

output "addresses" {
  value = { for peer in data.ucloud_bgp_peers.all.bgp_peers : peer.name => peer.address }
}
