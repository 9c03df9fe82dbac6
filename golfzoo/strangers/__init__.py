"""Files of strangers: opened in one place, read within bounds, and shown without what a terminal would obey."""
