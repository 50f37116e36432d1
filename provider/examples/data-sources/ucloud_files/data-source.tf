# All files of the project, on all file servers.
data "ucloud_files" "all" {}

output "files" {
  value = { for file in data.ucloud_files.all.files : file.name => file.size }
}
