terraform import ucloud_image.debian debian-13
