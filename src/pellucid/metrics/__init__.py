"""Evidence: which checks tell a good explanation from a bad one. To add one: write one file, add one line here."""
