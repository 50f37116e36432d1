terraform import ucloud_security_group.web web
