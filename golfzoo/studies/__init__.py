"""Questions to many runs: is one better than the other, and what is a change worth?"""
