"""What others call over HTTP: `uvicorn src.api.app:app`."""
