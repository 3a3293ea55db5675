"""Support code that several packages share.

`files` and `arrays` write files atomically, `memory` measures the machine, `tensorflow` and
`stderr` import TensorFlow without its console output, `extras` checks for optional dependencies,
and `text`, `redaction` and `commands` prepare text for messages. These modules are imported by all
other packages and import nothing from them.
"""
