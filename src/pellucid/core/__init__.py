"""The nouns: what is asked, of what, and what came out. Import from the modules; nothing is loaded here."""
