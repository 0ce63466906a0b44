"""The network under every client: which addresses may be called, and a transport that calls those and no others."""
