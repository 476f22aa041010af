"""Turn web text of any form into documents, and documents into shards."""
