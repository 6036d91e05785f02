"""TAXII 2.1 on the wire. Each route: parse, call one operation, render."""
