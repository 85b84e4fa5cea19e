"""The improvement loop. Names load on first use, so that serving never imports DSPy."""
