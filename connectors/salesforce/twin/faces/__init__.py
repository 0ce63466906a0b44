"""The faces of the twin, one per API: each translates requests to the org and its answers back."""
