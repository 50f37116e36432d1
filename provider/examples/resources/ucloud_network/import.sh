# By id, or by name:
terraform import ucloud_network.web web
