"""Reference models of five papers on multimodal sentiment and emotion, built on ``mmcontrast``."""
