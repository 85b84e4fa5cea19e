"""The dashboard: pages over the read model, and a person's word as an audited action."""
