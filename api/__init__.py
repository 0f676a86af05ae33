"""HTTP, pages and command line: what comes in is checked and handed on, what comes out is shaped."""
