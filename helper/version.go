package main

// version is part of what a snapshot is compatible with.
const version = "0.1.0"
