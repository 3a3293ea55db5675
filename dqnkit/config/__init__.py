"""Configuration of a run: YAML documents, their validation and the seeds of random streams.

`yaml_parsing` parses YAML, `loading` puts overrides on top and validates the result as a `Config`
of `sections`, whose values have the types of `fields` and `distributions`. Every other package
takes the resolved `Config`, and derives its random numbers from `training.seed`
(`random_streams`).
"""
