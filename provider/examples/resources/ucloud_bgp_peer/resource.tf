# Needs a token of an operator. The hosts of rack r1 announce the prefixes of their VMs to this router.
resource "ucloud_bgp_peer" "spine" {
  name          = "spine"
  address       = "fe80::a%eth0"
  asn           = 4200000000
  local_asn     = 4200000001
  password_file = "/etc/ucloud/bgp-password"
  host_selector = "rack=r1"
}
