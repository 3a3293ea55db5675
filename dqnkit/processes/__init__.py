"""Processes and signals.

`launcher` starts worker and actor processes and connects them to their parent by a pipe,
`interrupts` turns signals into requests that training checks between chunks, and `identity` names
a process so that other processes can tell whether it still runs.
"""
