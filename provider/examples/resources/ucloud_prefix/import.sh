# By name, or by id:
terraform import ucloud_prefix.site site-a
