"""The command line: commands parse, call one function of `dqnkit`, and print.

`main` holds the app and the error boundary, `options` the options that commands share, `output`
lines, tables and JSON, and `displays` the live displays, which are listeners of events.
"""
