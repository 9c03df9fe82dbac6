"""A run on this machine or on several: started, followed, kept, resumed."""
