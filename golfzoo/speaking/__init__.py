"""A finished model that is asked: to write, and what a text costs it."""
