"""The Pub/Sub API of the twin: what its change events look like, and the gRPC service that tells them."""
