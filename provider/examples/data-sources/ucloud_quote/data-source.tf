data "ucloud_quote" "web" {
  vms     = [{ count = 3, cpus = 2, memory = "4GiB", disk_size = "20GiB" }]
  volumes = [{ size = "100GiB" }]
}

check "cost" {
  assert {
    condition     = data.ucloud_quote.web.monthly <= 200
    error_message = "The servers cost ${data.ucloud_quote.web.monthly} ${coalesce(data.ucloud_quote.web.currency, "")} per month."
  }
}
