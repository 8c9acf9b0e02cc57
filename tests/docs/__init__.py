"""The README and docs are true: everything in them is run, compared or looked up."""
