"""Metrics, rankers, and tables that can be believed."""
