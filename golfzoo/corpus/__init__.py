"""Datasets: text -> tokenizer -> shards, and the checks of what lies on the disk."""
