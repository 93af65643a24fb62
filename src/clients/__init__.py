"""One module per outside system. A client knows how to speak to its system and maps its failures to our errors."""
