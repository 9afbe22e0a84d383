"""The same numbers at any size."""
