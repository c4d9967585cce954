"""The rooms behind the numbered scripts; each sub-package's docstring says what it knows about."""
