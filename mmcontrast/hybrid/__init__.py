"""HyCon: contrast by class within a modality, across modalities and within a sample.

``hybrid`` is the weighted sum (eq. 16) of three terms, one file each: ``intra`` (eq. 7-9),
``inter`` (eq. 10-12) and ``semi`` (eq. 6). ``pairs`` says which samples are contrasted,
``selection`` which of their pairs stay (HyCon-v2, eq. 13-15), ``ratio`` holds the contrast without
exponentials (eq. 5), and ``engine`` computes the terms: from all similarities (``similarities``),
or from sums over classes (``moments``, with ``parts``, ``class_sums`` and ``sums`` below it).
"""
