output "third" {
  value = provider::ucloud::subnet("2001:db8::/56", 64, 2) # 2001:db8:0:2::/64
}
