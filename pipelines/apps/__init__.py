"""The demo's app, before and after it was instrumented: what lies between them is what the monitor takes."""
