"""The command `msxai`: each of its commands runs a numbered notebook or calls one function."""
