terraform import ucloud_prefix_pool.main main-2
