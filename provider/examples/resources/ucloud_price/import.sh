terraform import ucloud_price.cpu price-0123456789abcdef
