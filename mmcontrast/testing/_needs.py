"""What the suite needs beside mmcontrast's own requirements, said in one place."""

try:
    import hypothesis as hypothesis
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "mmcontrast.testing needs hypothesis: pip install 'mmcontrast[testing]'", name="hypothesis"
    ) from error
