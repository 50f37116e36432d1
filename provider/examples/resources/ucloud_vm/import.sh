# By name, or by id:
terraform import ucloud_vm.web web-1
