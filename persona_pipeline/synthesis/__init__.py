"""Turn personas into synthetic records, domain by domain."""
