"""Language models behind one door: local weights, servers, hosted providers."""
