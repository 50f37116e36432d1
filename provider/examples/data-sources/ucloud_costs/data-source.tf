data "ucloud_costs" "present" {}

check "costs" {
  assert {
    condition     = tonumber(data.ucloud_costs.present.total) <= 500
    error_message = "The month costs ${data.ucloud_costs.present.total} ${coalesce(data.ucloud_costs.present.currency, "")} so far."
  }
}
