"""Thirty cases that people reported of tools like this one."""
