"""Turn documents into personas, find related personas, and apply quality rules to both."""
