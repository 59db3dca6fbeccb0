"""An explanation as people see it: figure, HTML fragment, page and terminal text. Nothing is loaded here."""
