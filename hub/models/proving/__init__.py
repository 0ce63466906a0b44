"""What happens to a model before it is stored: it is parsed, probed, and its ways of computing are proven equal.

A file is proven in a process of its own, without network or environment and under limits; an estimator in memory is
proven where it is.
"""
