# By name, or by id:
terraform import ucloud_project.acme acme
