"""Web text of any form to documents, and documents to shards."""
