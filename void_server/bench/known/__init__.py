"""Shots with known answers: any tool against the truth, region by region."""
