# By id, or by name:
terraform import ucloud_project.acme acme
