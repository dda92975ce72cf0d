package main

// vmmVerbs are the verbs of running microvms.
func vmmVerbs() map[string]verb { return nil }
