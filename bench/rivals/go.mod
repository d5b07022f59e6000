module exeunt.invalid/rivals

go 1.18
