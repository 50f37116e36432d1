terraform import ucloud_network.web web
