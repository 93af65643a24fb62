"""Webhooks to merchants: what the job, the command line and the HTTP API do with events, endpoints and deliveries."""
