"""One JSON line to one line of COPY text."""
