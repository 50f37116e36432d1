terraform import ucloud_budget.shop bdg-0123456789abcdef
