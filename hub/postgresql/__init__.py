"""PostgreSQL in the words of its own protocol, for the little that the engine's way of saying it costs too much.

Owns the connection that lets a transaction's last statement travel with its COMMIT, and the binary form of values.
Refuses to know what is said: the statements are their tables' own.
"""
