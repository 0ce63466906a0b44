"""The org behind the twin: what objects it has, the records in them, who may do what, and the rules on writing."""
