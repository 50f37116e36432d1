terraform import ucloud_ssh_key.alice alice
