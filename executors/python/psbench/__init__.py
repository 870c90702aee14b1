"""The command of the Python tool that psbench replaces; psbench itself is the program of that name."""
