terraform import ucloud_token.ci ci
