# By name, or by id:
terraform import ucloud_network.web web
