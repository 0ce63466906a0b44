"""The Merkle log over the trail: its tree, who seals it, its checkpoints and proofs, and how others verify them."""
