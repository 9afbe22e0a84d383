"""The one requirement of the suite beyond mmcontrast's own."""

try:
    import hypothesis as hypothesis
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "mmcontrast.testing needs hypothesis: pip install 'mmcontrast[testing]'", name="hypothesis"
    ) from error
