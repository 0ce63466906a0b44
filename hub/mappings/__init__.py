"""What a mapping says, checked, compiled, explained and kept.

Refuses to run anything: execution of a compiled mapping on frames is `hub.mappings.pipeline`, and runs are above.
"""
