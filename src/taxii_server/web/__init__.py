"""What the web faces share: errors, media types, bodies, the request's log line and metrics."""
