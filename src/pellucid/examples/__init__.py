"""Rows that stand for others: nearest ones, prototypes, criticisms. To add one: write one file, add one line here."""
