"""What a picture, a text or a table is made of, and how it is read and shown."""
