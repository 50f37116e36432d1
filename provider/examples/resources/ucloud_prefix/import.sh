# By id, or by name:
terraform import ucloud_prefix.site site-a
