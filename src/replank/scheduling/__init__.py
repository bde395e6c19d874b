"""Scheduling: every request for a reload is answered, and those that are tied wait their turn."""
