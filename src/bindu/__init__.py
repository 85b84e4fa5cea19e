"""Bindu: agents whose system prompt improves itself from what users say."""
