# By id, or by name:
terraform import ucloud_vm.web web-1
