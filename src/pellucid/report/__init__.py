"""The report: what a store holds, as one offline HTML file. Import from the modules; nothing is loaded here."""
