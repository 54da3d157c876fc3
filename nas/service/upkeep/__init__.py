"""What stays for how long, and copies of everything."""
