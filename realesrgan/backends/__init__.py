"""Backends: what each can do, and what its errors mean."""
