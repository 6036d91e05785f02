"""Postgres: the only package that imports sqlalchemy."""
