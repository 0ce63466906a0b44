"""What programs ask for on the spot: gathered into pages while one is at work, and each caller its own answer."""
