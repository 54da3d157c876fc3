"""One TailorBERT for a team: searches over HTTP, durable jobs, devices, a page."""
