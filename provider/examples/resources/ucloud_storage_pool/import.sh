terraform import ucloud_storage_pool.fast fast
