"""From files and generators to cases."""
