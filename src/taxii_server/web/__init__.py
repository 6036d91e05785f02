"""What the web faces share: errors, media types, bodies, an answer's last step, the request's log line and metrics."""
