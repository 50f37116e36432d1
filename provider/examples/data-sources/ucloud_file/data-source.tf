# A file that was uploaded, or dropped by SFTP.
data "ucloud_file" "this" {
  name = "example.raw"
}

output "sha256" {
  value = data.ucloud_file.this.sha256
}
