"""One run: its parts, its training into a folder, its metrics, and its evaluation from there."""
