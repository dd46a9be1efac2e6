"""Every stage against what is true in the toy shop; `run.run` is the whole of it."""
