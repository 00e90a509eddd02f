"""The version of this package, read as text by ``setup.py``."""

__version__ = "0.1.0"
