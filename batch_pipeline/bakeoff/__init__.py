"""The golden set over several models at once: which is the cheapest that is good enough. Changes nothing by itself."""
