# By id, or by name:
terraform import ucloud_ssh_key.alice alice
