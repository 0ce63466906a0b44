"""What becomes of events in time: erased with their subject, pruned when their time is over, or held for a court."""
