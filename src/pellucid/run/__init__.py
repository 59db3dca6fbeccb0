"""Work done and results kept. Import from the modules; nothing is loaded here."""
