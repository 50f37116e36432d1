data "ucloud_bill" "january" {
  number = "EX-000001"
}

output "amount" {
  value = "${data.ucloud_bill.january.gross} ${data.ucloud_bill.january.currency}"
}
