"""The commands, by what they are about. Each reads its arguments, calls one function, shows what comes back."""
