"""Looking at any TAXII 2.1 server from a client's side: `taxii-server check`. It needs no database and no settings."""
