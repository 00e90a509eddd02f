"""Training models. Importing this package imports nothing: training registers what it needs when it starts."""
