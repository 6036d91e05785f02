#!/bin/sh
# Makes the two roles and the database: taxii_owner runs migrations, taxii_server serves and owns nothing.
# Takes a superuser's login from psql's own variables (PGHOST, PGUSER ...), passwords from OWNER_PASSWORD and SERVER_PASSWORD.
set -eu
: "${OWNER_PASSWORD:?}" "${SERVER_PASSWORD:?}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-${PGUSER:-postgres}}" --dbname postgres <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv server_password SERVER_PASSWORD
CREATE ROLE taxii_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE taxii_server LOGIN PASSWORD :'server_password';
CREATE DATABASE taxii OWNER taxii_owner TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
REVOKE ALL ON DATABASE taxii FROM PUBLIC;
GRANT CONNECT ON DATABASE taxii TO taxii_server;
SQL
