"""Synthetic training text for the two small models, written by seeds."""
