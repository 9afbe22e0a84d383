"""Time and memory of the losses and miners, beside other libraries: ``make bench``."""
