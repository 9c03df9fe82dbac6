"""What runs came to: a table of them all, and one page about some of them."""
