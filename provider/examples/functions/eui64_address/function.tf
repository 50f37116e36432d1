output "address" {
  value = provider::ucloud::eui64_address("2001:db8:0:100::/64", "42:00:5e:10:00:01") # 2001:db8:0:100:4000:5eff:fe10:1
}
