# By name, or by id:
terraform import ucloud_image.debian debian-13
