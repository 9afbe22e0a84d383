"""Parts of networks that two or more papers share."""
