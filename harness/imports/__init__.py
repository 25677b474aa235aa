"""Results of other tools, read from the files they write: one module a tool."""
