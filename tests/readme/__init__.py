"""What README.md shows and does not say twice: its generated tables and its pictures."""
