"""What README.md and the site show and do not say twice: generated tables and pictures."""
