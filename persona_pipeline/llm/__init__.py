"""Model access: requests, the response store, and the clients behind one protocol."""
