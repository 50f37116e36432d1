# By id, or by name:
terraform import ucloud_image.debian debian-13
