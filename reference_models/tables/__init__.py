"""The papers' tables, reproduced beside the published numbers; pages about finished runs."""
