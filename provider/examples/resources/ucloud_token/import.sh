# By name, or by id:
terraform import ucloud_token.ci ci
