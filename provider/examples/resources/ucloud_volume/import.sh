terraform import ucloud_volume.data db-data
