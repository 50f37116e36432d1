terraform import ucloud_vm.web web-1
