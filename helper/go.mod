module torpor/helper

go 1.22

