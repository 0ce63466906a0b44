"""Standing: blocks of neighbouring keys and the rows laid over them."""
