"""Layers that architectures have in common: a library, whose files ship with whatever imports them."""
