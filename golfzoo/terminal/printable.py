"""A stranger's text on a terminal: letters, and no commands to it."""


def printable(text: str) -> str:
    """A text in which everything that could move a cursor, hide or reorder text is a replacement character."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
