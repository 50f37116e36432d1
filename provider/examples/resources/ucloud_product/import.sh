terraform import ucloud_product.cpu cpu
