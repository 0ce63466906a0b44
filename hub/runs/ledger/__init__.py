"""What the ledger is made of: its tables, and which slices are to be claimed next."""
