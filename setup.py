"""For tools that ask for a setup.py. Everything but the licence's name stands in pyproject.toml."""

from setuptools import setup

setup(license="BSD-3-Clause")
