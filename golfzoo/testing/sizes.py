"""What the models that checks are made with have in common."""

VOCAB_SIZE = 64
