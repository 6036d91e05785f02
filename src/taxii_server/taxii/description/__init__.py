"""What the API documents say of TAXII's operations: texts, parameters, answers, and examples as the server writes them."""
