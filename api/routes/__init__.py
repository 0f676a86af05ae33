"""Routes, one file per resource: each parses, calls one function, shapes the answer."""
