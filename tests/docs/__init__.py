"""The README and docs are true: what they show is run, what they name is looked up."""
