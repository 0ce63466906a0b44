"""What the hub concluded about each record, and where each record stands now.

Owns the decision log (encrypted segments and their catalogue), standing, and the receipt that both make together.
Refuses to decide anything: it keeps what it is given, proves it, and gives it back.
"""
