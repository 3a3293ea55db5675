"""Replay in a server of DeepMind's Reverb (Cassirer et al., 2021, arXiv:2102.04736).

It is there where the extra `reverb` is installed (`dqnkit._system.extras`).
"""
