"""Built-in checks that need Python: one module a check, with DEFAULTS, READS and prepare()."""
