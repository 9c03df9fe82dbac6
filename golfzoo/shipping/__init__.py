"""What a submission is: its code in one file, its sizes, its folder."""
