"""Pages for people and machines around TAXII: health, and the API documents."""
