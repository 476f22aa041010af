"""Give access to models: requests, answers, prices, and the clients behind one protocol."""
