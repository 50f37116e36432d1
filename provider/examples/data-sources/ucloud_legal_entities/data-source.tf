data "ucloud_legal_entities" "all" {}

output "names" {
  value = data.ucloud_legal_entities.all.legal_entities[*].name
}
