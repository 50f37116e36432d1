terraform import ucloud_prefix.site site-a
