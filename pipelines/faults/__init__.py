"""User modules with the bugs of real apps: each is the demo's module with one thing done wrong."""
