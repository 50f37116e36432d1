data "ucloud_vms" "web" {
  selector = "tier=web"
}

output "addresses" {
  value = { for vm in data.ucloud_vms.web.vms : vm.name => vm.address }
}
