"""Finds out what an app does differently when it prepares an input."""
