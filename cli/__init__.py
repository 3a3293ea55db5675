"""The command line: it parses, calls one function of `dqnkit`, and prints."""
