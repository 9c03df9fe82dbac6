"""What can be said of a hand-written submission without running it. Nothing of its folder is executed or imported."""
