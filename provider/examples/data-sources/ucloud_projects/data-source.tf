data "ucloud_projects" "all" {}
