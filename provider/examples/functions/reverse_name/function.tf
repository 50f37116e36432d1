output "name" {
  value = provider::ucloud::reverse_name("2001:db8::1") # 1.0.0.0. … .8.b.d.0.1.0.0.2.ip6.arpa
}
