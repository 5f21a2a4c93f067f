"""What could go from a finished run, each removal proven on paired episodes, the whole written as a new run (`marlstone trim`)."""
