"""The decision log: segment files, the proof of their rows, their catalogue and their upkeep."""
