"""The sample data set, which `python -m sample.draw` draws."""
