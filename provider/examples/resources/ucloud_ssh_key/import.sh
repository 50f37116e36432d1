# By name, or by id:
terraform import ucloud_ssh_key.alice alice
