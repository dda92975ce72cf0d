package main

// version changes with behaviour: an old agent sleeps in every template. scripts/artifacts/initramfs.sh reads it here.
const version = "0.4.0"
