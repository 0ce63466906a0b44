"""A correct connector to a far side in memory, its far side and its harness, laid out as a connector's folder is.

An example for authors, and what the mutants that try the kit are copies of.
"""
