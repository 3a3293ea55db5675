"""Greedy episodes of a policy, in environments and with seeds of their own."""
