"""The parts of an experiment's spec, a module each."""
