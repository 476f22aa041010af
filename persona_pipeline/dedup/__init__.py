"""Which personas say the same thing as one already kept, and which one is kept."""
