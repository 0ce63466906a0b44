"""The routes of the API, one module per room: each translates a request, calls the room, and shapes the answer."""
