"""The rollout of a candidate, step by step."""
