"""This machine: its devices, what a record costs on it, what is broken."""
