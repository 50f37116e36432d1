terraform import ucloud_project.acme acme
