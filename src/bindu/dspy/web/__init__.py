"""The HTTP edge: what agents, browsers and scrapers ask for."""
