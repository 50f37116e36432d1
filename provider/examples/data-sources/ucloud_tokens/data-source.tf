data "ucloud_tokens" "all" {}

output "tokens_without_end" {
  value = [for token in data.ucloud_tokens.all.tokens : token.name if token.expires_at == null]
}
