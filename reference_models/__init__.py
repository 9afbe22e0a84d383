"""Reference models of five papers on multimodal sentiment and emotion, built on ``mmcontrast``.

Each paper is a folder (``hycon``, ``tecafn``, ``mcl_mcf``, ``mfon``, ``cormult``, and ``text_only``
to compare with) of its ``network``, its ``settings`` and the numbers that it prints; ``registry``
lists them, a line each. ``layers`` are parts that papers share, ``data`` reads files, ``running``
trains one model, ``tables`` reproduces a paper's table, and ``commands`` is the command line.
"""
