"""Effects of columns over a whole table. To add one: write one file, add one line here."""
