# By name, or by id:
terraform import ucloud_prefix_pool.main main-2
