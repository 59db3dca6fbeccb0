"""Searches for the smallest change that would have changed the answer. To add one: write one file, add one line here."""
