"""The four typed prompt modules."""
