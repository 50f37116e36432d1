data "ucloud_legal_entity" "this" {
  name = "example"
}

output "number_series" {
  value = data.ucloud_legal_entity.this.number_series
}
