# By id, or by name:
terraform import ucloud_token.ci ci
