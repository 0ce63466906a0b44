"""Mappings that ship with the hub: documents, and the examples that prove them."""
