"""Find texts that say the same as another one, and decide which of them stay."""
