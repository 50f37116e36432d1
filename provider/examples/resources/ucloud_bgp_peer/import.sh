terraform import ucloud_bgp_peer.spine spine
