terraform import ucloud_file.appliance appliance.qcow2
