"""Change data capture by the Pub/Sub API: the wire, what an event's header says, and the live role.

Needs the extra `grpc`. `pubsub_pb2` is made from `pubsub.proto`, by the command that stands there.
"""
