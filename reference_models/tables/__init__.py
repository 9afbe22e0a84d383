"""Tables of papers, run again, beside the published numbers; and pages about finished runs."""
